// Keeps a page current, by the bridge's events: names are set as text, never as markup, or the page is loaded again and
// those parts of it that have changed are put in their places, unless somebody is just about to use one.

const AGAIN_MS = 3000;
const POINTED_MS = 5000;

let pointedAt = -POINTED_MS;
document.addEventListener("pointermove", () => { pointedAt = performance.now(); }, { passive: true });

/** @typedef {{ id: string, kind: string, mark: string, text: string, seen: string, user: string, link: string }} Row */

const panel = /** @type {HTMLElement | null} */ (document.querySelector("[data-feed]"));
if (panel !== null) {
  follow(panel);
}

/** @param {HTMLElement} panel */
function follow(panel) {
  const status = /** @type {HTMLElement} */ (panel.querySelector("[role=status]"));
  const pause = /** @type {HTMLButtonElement} */ (panel.querySelector("button"));
  /** @type {EventSource | null} */
  let source = null;
  let paused = false;
  let wasOpen = false;
  let timer = 0;

  /** @param {"on" | "waits" | "paused"} what */
  function tell(what) {
    const text = panel.dataset[what] ?? "";
    if (status.textContent !== text) {
      status.textContent = text;
    }
    panel.dataset.state = what;
  }

  function close() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  function open() {
    close();
    if (paused || document.hidden) {
      return;
    }
    source = new EventSource(panel.dataset.feed ?? "");
    source.onopen = () => {
      tell("on");
      if (wasOpen) {
        void again(); // nothing was told meanwhile
      }
      wasOpen = true;
    };
    source.onmessage = (event) => {
      const news = JSON.parse(event.data);
      show(news);
      if (news.again) {
        void again();
      }
    };
    source.onerror = () => {
      // A browser does not come back by itself after an answer such as 503, which a bridge gives that ends.
      tell("waits");
      close();
      timer = setTimeout(open, AGAIN_MS * (0.5 + Math.random()));
    };
  }

  pause.onclick = () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    if (paused) {
      close();
      tell("paused");
    } else {
      open();
    }
  };
  document.addEventListener("visibilitychange", open);
  panel.hidden = false;
  open();
}

let waiting = 0;

/** Load this page again, and replace its parts that have changed. */
async function again() {
  clearTimeout(waiting);
  /** @type {Document} */
  let fresh;
  try {
    const answer = await fetch(location.href, { headers: { "x-sarvis-by-itself": "1" }, redirect: "error" });
    if (!answer.ok) {
      return;
    }
    fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    return; // the feed notices it, too
  }
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.querySelector(`[data-live="${CSS.escape(part.getAttribute("data-live") ?? "")}"]`);
    if (other === null || part.isEqualNode(other)) {
      continue;
    }
    if (isUsed(part)) {
      waiting = setTimeout(again, AGAIN_MS);
      continue;
    }
    const before = scrolled(part);
    part.replaceChildren(...other.childNodes);
    scrolled(part).forEach((now, number) => now.scrollTo(before[number]?.scrollLeft ?? 0, before[number]?.scrollTop ?? 0));
  }
}

/**
 * Whether what is there must stay for now: under a pointer that moves, with the focus in it, or with marked text.
 * @param {Element} part
 */
function isUsed(part) {
  const marked = getSelection();
  return part.contains(document.activeElement)
    || (part.matches(":hover") && performance.now() - pointedAt < POINTED_MS)
    || (marked !== null && !marked.isCollapsed && marked.containsNode(part, true));
}

/**
 * @param {Element} part
 * @returns {Element[]}
 */
function scrolled(part) {
  return [...part.querySelectorAll(".wide, .timeline")];
}

/** @param {{ figures?: Record<string, string>, paths?: Record<string, string>, rows?: Row[] }} news */
function show(news) {
  for (const [name, text] of Object.entries(news.figures ?? {})) {
    const figure = document.querySelector(`[data-figure="${CSS.escape(name)}"]`);
    if (figure !== null) {
      figure.textContent = text;
    }
  }
  for (const [name, coordinates] of Object.entries(news.paths ?? {})) {
    for (const path of document.querySelectorAll(`[data-path="${CSS.escape(name)}"]`)) {
      path.setAttribute("d", coordinates);
    }
  }
  for (const row of news.rows ?? []) {
    const line = document.querySelector(`[data-device="${CSS.escape(row.id)}"]`);
    if (line !== null) {
      showRow(line, row);
    }
  }
}

/**
 * @param {Element} line
 * @param {Row} row
 */
function showRow(line, row) {
  const state = line.querySelector("[data-cell=state] > .state");
  const seen = line.querySelector("[data-cell=seen]");
  const user = line.querySelector("[data-cell=user]");
  if (state === null || seen === null || user === null) {
    return;
  }
  state.className = `state ${row.kind}`;
  state.children[0].textContent = row.mark;
  state.children[1].textContent = row.text;
  seen.textContent = row.seen;
  const there = user.querySelector("a");
  if (there !== null && row.user !== "") {
    there.textContent = row.user;
    there.href = row.link;
  } else if (row.user !== "") {
    const link = document.createElement("a");
    link.textContent = row.user;
    link.href = row.link;
    user.replaceChildren(link);
  } else {
    user.textContent = "-";
  }
}
