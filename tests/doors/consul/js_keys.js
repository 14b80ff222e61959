// Everything that a user of npm's consul does with keys; fails with a stack.
//
//   js_keys.js HOST:PORT
const assert = require("node:assert").strict;
const Consul = require("consul");

const [host, port] = process.argv[2].split(":");
const consul = new (Consul.default || Consul)({ host, port: Number(port) });

async function keys() {
  assert.equal(await consul.kv.set("app/a", "one"), true);
  assert.equal(await consul.kv.set({ key: "app/b/c", value: "two", flags: 7 }), true);
  const one = await consul.kv.get("app/b/c");
  assert.equal(one.Value, "two");
  assert.equal(one.Flags, 7);
  assert.equal(await consul.kv.get("none"), undefined);
  assert.equal((await consul.kv.get({ key: "app/a", raw: true })).toString(), "one");
  const tree = await consul.kv.get({ key: "app/", recurse: true });
  assert.deepEqual(tree.map((each) => each.Key), ["app/a", "app/b/c"]);
  assert.deepEqual(await consul.kv.keys({ key: "app/", separator: "/" }), ["app/a", "app/b/"]);
  const cas = String(one.ModifyIndex);
  assert.ok(!(await consul.kv.set({ key: "app/b/c", value: "x", cas: "0" })));
  assert.equal(await consul.kv.set({ key: "app/b/c", value: "x", cas }), true);
  assert.ok(!(await consul.kv.set({ key: "app/b/c", value: "y", cas })));
  await consul.kv.del({ key: "app/", recurse: true });
  assert.equal(await consul.kv.get({ key: "app/", recurse: true }), undefined);
}

async function locks() {
  const one = (await consul.session.create({ name: "one", lockdelay: "0s" })).ID;
  const two = (await consul.session.create({ name: "two", ttl: "10s", behavior: "delete" })).ID;
  const info = await consul.session.get(one);
  assert.equal([].concat(info)[0].Name, "one");
  const listed = (await consul.session.list()).map((each) => each.ID);
  assert.ok(listed.includes(one) && listed.includes(two));
  assert.equal(await consul.kv.set({ key: "lock", value: "1", acquire: one }), true);
  assert.ok(!(await consul.kv.set({ key: "lock", value: "2", acquire: two })));
  assert.equal(await consul.kv.set({ key: "lock", value: "1", release: one }), true);
  assert.equal(await consul.kv.set({ key: "lock", value: "2", acquire: two }), true);
  assert.equal((await consul.session.renew(two))[0].TTL, "10s");
  await consul.session.destroy(two);
  assert.equal(await consul.kv.get("lock"), undefined);
  await consul.session.destroy(one);
}

// A watch sees the first state, then each change of its key.
function watching() {
  return new Promise((done, fail) => {
    const watch = consul.watch({
      method: consul.kv.get,
      options: { key: "watched", wait: "20s" },
      backoffFactor: 50,
    });
    let values = [];
    watch.on("error", fail);
    watch.on("change", async (found) => {
      values.push(found === undefined ? null : found.Value);
      if (values.length === 1) await consul.kv.set("other", "x");
      if (values.length <= 2) await consul.kv.set("watched", `v${values.length}`);
      else {
        watch.end();
        done(values);
      }
    });
  });
}

async function events() {
  const fired = await consul.event.fire({ name: "deploy", payload: "now" });
  assert.equal(fired.Name, "deploy");
  const listed = await consul.event.list("deploy");
  assert.equal(listed[listed.length - 1].ID, fired.ID);
}

async function transactions() {
  const value = Buffer.from("x").toString("base64");
  const done = await consul.transaction.create([
    { KV: { Verb: "set", Key: "t/a", Value: value } },
    { KV: { Verb: "get", Key: "t/a" } },
  ]);
  assert.equal(done.Results.length, 2);
  const steps = [
    { KV: { Verb: "delete", Key: "t/a" } },
    { KV: { Verb: "get", Key: "none" } },
  ];
  await assert.rejects(consul.transaction.create(steps));
  assert.equal((await consul.kv.get("t/a")).Value, "x");

  const web = { ID: "web-1", Service: "txn-js", Port: 80 };
  const made = await consul.transaction.create([
    { Node: { Verb: "set", Node: { Node: "txn-2", Address: "10.0.0.2" } } },
    { Service: { Verb: "set", Node: "txn-2", Service: web } },
    { Check: { Verb: "set", Check: { Node: "txn-2", CheckID: "up", Status: "warning" } } },
  ]);
  assert.deepEqual(made.Results.flatMap(Object.keys), ["Node", "Service", "Check"]);
  const [found] = await consul.health.service({ service: "txn-js" });
  assert.equal(found.Checks.find((check) => check.CheckID === "up").Status, "warning");
  const node = { Verb: "delete", Node: { Node: "txn-2" } };
  const missing = { Verb: "get", Check: { Node: "txn-2", CheckID: "none" } };
  await assert.rejects(consul.transaction.create([{ Check: missing }, { Node: node }]));
  await consul.transaction.create([{ Node: node }]);
  assert.deepEqual(await consul.health.service({ service: "txn-js" }), []);
}

async function main() {
  await keys();
  await locks();
  assert.deepEqual(await watching(), [null, "v1", "v2"]);
  await events();
  await transactions();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
