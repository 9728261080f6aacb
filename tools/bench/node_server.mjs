// The same server on Node.js with the packages mqtt and ws: node node_server.mjs PACKAGES MQTT_PORT PREFIX
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const [packages, mqttPort, prefix] = process.argv.slice(2);
const load = createRequire(join(packages, "index.js"));
const mqtt = load("mqtt");
const { WebSocketServer } = load("ws");

const sockets = new Map();
const now = () => new Date().toISOString();

function call(uid, command) {
  const socket = sockets.get(uid);
  if (socket === undefined) return false;
  socket.send(JSON.stringify({ type: "voice_command", command, timestamp: now() }));
  return true;
}

const server = createServer((request, response) => {
  let body = "";
  request.on("data", (part) => (body += part));
  request.on("end", () => {
    const { uid, command } = JSON.parse(body);
    const success = call(uid, command);
    const answer = JSON.stringify({ success, message: success ? "Command sent" : "User not connected" });
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(answer) });
    response.end(answer);
  });
});

new WebSocketServer({ server, perMessageDeflate: false }).on("connection", (socket, request) => {
  const uid = request.url.split("/")[3];
  sockets.set(uid, socket);
  socket.on("message", (data) => {
    if (JSON.parse(data).type === "heartbeat") {
      socket.send(JSON.stringify({ type: "heartbeat_ack", timestamp: now(), status: "active" }));
    }
  });
  socket.on("close", () => sockets.get(uid) === socket && sockets.delete(uid));
  socket.send(
    JSON.stringify({
      type: "connection_established",
      message: "Connected to SARVIS Server",
      connection_uuid: uid,
      timestamp: now(),
    }),
  );
});

const client = mqtt.connect(`mqtt://127.0.0.1:${mqttPort}`);
client.on("message", (_topic, payload) => {
  const { uid, command } = JSON.parse(payload);
  call(uid, command);
});
client.on("connect", () => client.subscribe(`${prefix}/devices/+/wake`, { qos: 1 }, () => console.log("subscribed")));
server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () =>
  console.log(`node listening on http://127.0.0.1:${server.address().port}`),
);
process.on("SIGTERM", () => process.exit(0));
