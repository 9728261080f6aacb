// The other tabs of this page in this browser. Where a browser has no channel between them each is alone.

export class Tabs {
  constructor(name, on_message) {
    try {
      this.channel = new BroadcastChannel(name);
      this.channel.onmessage = ({ data }) => on_message(data);
    } catch {
      this.channel = null;
    }
  }

  post(message) {
    this.channel?.postMessage(message);
  }
}
