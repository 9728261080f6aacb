// A client made with MQTT.js; says on stdout, as JSON, what it saw. Arguments: folder of node_modules, port.
import { createRequire } from "node:module";

const [, , home, port] = process.argv;
const mqtt = createRequire(`${home}/`)("mqtt");
const url = `mqtt://127.0.0.1:${port}`;
const open = (options) => mqtt.connectAsync(url, { reconnectPeriod: 0, connectTimeout: 5000, ...options });
const saw = { heard: {}, retained: [], offline: [], will: [] };
const until = async (condition) => {
  const end = Date.now() + 5000;
  while (!condition() && Date.now() < end) await new Promise((next) => setTimeout(next, 5));
};

const ear = await open({ clientId: "js-ear" });
ear.on("message", (topic, data, packet) => {
  if (topic === "js/will") saw.will.push(`${data}`);
  else if (packet.retain) saw.retained.push(`${topic} ${data}`);
  else (saw.heard[topic] ??= []).push(+data);
});
const mouth = await open({ clientId: "js-mouth" });
await mouth.publishAsync("js/kept", "싸비스", { qos: 1, retain: true });
await ear.subscribeAsync("js/#", { qos: 2 });
saw.refused = await ear.subscribeAsync("$share/g/a", { qos: 1 }).then(() => "", (error) => error.message);
for (let number = 0; number < 100; number++)
  await Promise.all([0, 1, 2].map((qos) => mouth.publishAsync(`js/${qos}`, `${number}`, { qos })));
await until(() => [0, 1, 2].every((qos) => saw.heard[`js/${qos}`]?.length === 100));

const lost = await open({ clientId: "js-lost", will: { topic: "js/will", payload: Buffer.from("gone"), qos: 1 } });
lost.stream.destroy();
await until(() => saw.will.length);

const away = await open({ clientId: "js-away", clean: false });
await away.subscribeAsync("js/later", { qos: 1 });
await away.endAsync();
await mouth.publishAsync("js/later", "7", { qos: 1 });
const back = mqtt.connect(url, { clientId: "js-away", clean: false, reconnectPeriod: 0 });
back.on("connect", (answer) => (saw.present = answer.sessionPresent));
back.on("message", (_topic, data) => saw.offline.push(+data));
await until(() => saw.offline.length);

await Promise.all([ear, mouth, back].map((client) => client.endAsync()));
console.log(JSON.stringify(saw));
process.exit(0);
