// The same server on Node.js with the packages mqtt and ws: node node_server.mjs PACKAGES MQTT_PORT PREFIX [confirmed]
// With "confirmed" it does with each wake what the bridge does on sarvis.v2: in, out, confirmed, and two outcomes.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const [packages, mqttPort, prefix, mode] = process.argv.slice(2);
const load = createRequire(join(packages, "index.js"));
const mqtt = load("mqtt");
const { WebSocketServer } = load("ws");

const confirmed = mode === "confirmed";
const sockets = new Map();
const wakes = new Map();
const MOST_WAKES = 10_000;
const now = () => new Date().toISOString();

function call(uid, command) {
  const socket = sockets.get(uid);
  if (socket === undefined) return false;
  socket.send(JSON.stringify({ type: "voice_command", command, timestamp: now() }));
  return true;
}

function tell(device, id, status, since) {
  const latency_ms = Math.round((performance.now() - since) * 1000) / 1000;
  client.publish(`${prefix}/devices/${device}/outcome`, JSON.stringify({ id, status, latency_ms }));
}

function wake(device, { uid, command, id, ttl_ms, age_ms }) {
  const received = performance.now();
  const socket = sockets.get(uid);
  if (wakes.has(id)) return;
  if (wakes.size >= MOST_WAKES) wakes.delete(wakes.keys().next().value);
  wakes.set(id, { device, received, uid });
  if (socket === undefined) {
    tell(device, id, "user_not_connected", received);
    return;
  }
  const timestamp = now();
  const clock_ms = Math.floor(received);
  const named = { id, device_id: device, ttl_ms, age_ms, received_at: timestamp, clock_ms };
  const frame = { type: "voice_command", command, timestamp, ...named };
  socket.send(JSON.stringify(frame));
  tell(device, id, "sent", received);
}

function confirm(uid, id) {
  const known = wakes.get(id);
  if (known === undefined || known.uid !== uid || known.acked) return;
  known.acked = true;
  tell(known.device, id, "acked", known.received);
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

const handleProtocols = (offered) => (offered.has("sarvis.v2") ? "sarvis.v2" : false);
new WebSocketServer({ server, perMessageDeflate: false, handleProtocols }).on("connection", (socket, request) => {
  const uid = request.url.split("/")[3];
  sockets.set(uid, socket);
  socket.on("message", (data) => {
    const said = JSON.parse(data);
    if (said.type === "ack") confirm(uid, said.id);
    else if (said.type === "heartbeat") {
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
client.on("message", (topic, payload) => {
  const said = JSON.parse(payload);
  if (confirmed) wake(topic.split("/").at(-2), said);
  else call(said.uid, said.command);
});
client.on("connect", () => client.subscribe(`${prefix}/devices/+/wake`, { qos: 1 }, () => console.log("subscribed")));
server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () =>
  console.log(`node listening on http://127.0.0.1:${server.address().port}`),
);
process.on("SIGTERM", () => process.exit(0));
