// The other tabs of this page in this browser. An old browser has no channel between them: what one stores the others hear.
// Where neither is there each tab is alone.

const NAME = "sarvis.tabs";

export class Tabs {
  constructor(name, on_message) {
    try {
      this.channel = new BroadcastChannel(name);
      this.channel.onmessage = ({ data }) => on_message(data);
    } catch {
      this.channel = null;
      addEventListener("storage", ({ key, newValue }) => {
        const message = key === NAME ? parsed(newValue) : null;
        if (message) on_message(message);
      });
    }
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
