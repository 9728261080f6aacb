// Messages between the tabs of this page in one browser; through the storage where the browser has no channel.
// Where neither is there each tab is alone.

const NAME = "sarvis.tabs";

export class Tabs {
  constructor(name) {
    try {
      this.channel = new BroadcastChannel(name);
    } catch {
      this.channel = null;
    }
  }

  // `on_message` gets what other tabs post from now on.
  listen(on_message) {
    if (this.channel) {
      this.channel.onmessage = ({ data }) => on_message(data);
      return;
    }
    addEventListener("storage", ({ key, newValue }) => {
      const message = key === NAME ? parsed(newValue) : null;
      if (message) on_message(message);
    });
  }

  post(message) {
    if (this.channel) {
      this.channel.postMessage(message);
      return;
    }
    try {
      localStorage.setItem(NAME, JSON.stringify(message));
      localStorage.removeItem(NAME);
    } catch {
      // Blocked or full: it is alone.
    }
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
