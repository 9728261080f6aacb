// An app of the documented protocol made with reconnecting-websocket, as its readme has it: HOME ADDRESS.
import { createRequire } from "node:module";

const [home, address] = process.argv.slice(2);
const ReconnectingWebSocket = createRequire(`${home}/`)("reconnecting-websocket");

const tell = (what) => console.log(JSON.stringify(what));
const socket = new ReconnectingWebSocket(address, [], { minReconnectionDelay: 1000 });
let beating;
socket.addEventListener("open", () => {
  tell({ type: "open" });
  clearInterval(beating);
  beating = setInterval(() => socket.send('{"type":"heartbeat"}'), 500);
});
socket.addEventListener("message", ({ data }) => tell(JSON.parse(data)));
