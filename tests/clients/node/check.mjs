// Connects by node-redis, pipelines, transacts and subscribes: check.mjs PORT PROTOCOL.
import assert from "node:assert/strict";
import { createClient, WatchError } from "redis";

const [port, protocol] = process.argv.slice(2).map(Number);
const connect = async () => {
  const client = createClient({ socket: { host: "127.0.0.1", port }, RESP: protocol, name: "node" });
  client.on("error", (error) => {
    throw error;
  });
  await client.connect();
  return client;
};
const client = await connect();
await client.flushAll();

// Values, and none.
await client.set("text", "a\r\n\u00e9", { EX: 3600 });
assert.equal(await client.get("text"), "a\r\n\u00e9");
assert.equal(await client.get("absent"), null);
const left = await client.ttl("text");
assert.ok(left > 3500 && left <= 3600);

// A pipeline: what is asked for at once is sent at once.
const numbers = Array.from({ length: 1000 }, (_, i) => i);
await Promise.all(numbers.map((i) => client.set(`key ${i}`, String(i))));
assert.deepEqual(await client.mGet(["key 0", "absent", "key 999"]), ["0", null, "999"]);
let count = 0;
for await (const keys of client.scanIterator({ MATCH: "key *", COUNT: 100 })) {
  count += Array.isArray(keys) ? keys.length : 1;
}
assert.equal(count, 1000);

// Transactions: those that lose a race try again.
const add = async () => {
  const own = await connect();
  for (let i = 0; i < 50; ) {
    await own.watch("sum");
    const sum = Number(await own.get("sum"));
    try {
      await own.multi().set("sum", String(sum + 1)).get("sum").exec();
      i += 1;
    } catch (error) {
      assert.ok(error instanceof WatchError, String(error));
    }
  }
  own.destroy();
};
await Promise.all([add(), add(), add(), add()]);
assert.equal(await client.get("sum"), "200");

// Messages.
const listener = await connect();
const heard = [];
const all = new Promise((resolve) => {
  const hear = (message, channel) => {
    heard.push(channel + message);
    if (heard.length === 100) resolve();
  };
  listener.pSubscribe("news*", hear).then(async () => {
    for (let i = 0; i < 100; i++) assert.equal(await client.publish("news.1", String(i)), 1);
  });
});
await all;
assert.deepEqual(heard, numbers.slice(0, 100).map((i) => `news.1${i}`));
await listener.pUnsubscribe("news*");
listener.destroy();
client.destroy();
console.log("fine");
