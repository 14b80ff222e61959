// Takes a lock again and again, by npm's consul; prints from when to when it had it.
//
//   js_locker.js NAME HOST:PORT...       asks another node when one does not answer
const Consul = require("consul");

const [name, ...nodes] = process.argv.slice(2);
let asked = 0;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Do it at a node that answers; null if it is not known what became of it.
async function ask(perform) {
  const [host, port] = nodes[asked % nodes.length].split(":");
  const client = new (Consul.default || Consul)({ host, port: Number(port) });
  try {
    return await perform(client);
  } catch (error) {
    console.error(String(error));
    asked += 1;
    await sleep(50);
    return null;
  }
}

async function until(perform) {
  for (;;) {
    const answer = await ask(perform);
    if (answer !== null) return answer;
  }
}

async function isMine(session) {
  const options = { key: "locks/one", consistent: true, timeout: 5000 };
  const entry = await until(async (c) => (await c.kv.get(options)) || {});
  return entry.Session === session;
}

async function main() {
  const asking = { name, ttl: "20s", lockdelay: "0s", timeout: 5000 };
  const session = (await until((c) => c.session.create(asking))).ID;
  let renewed = Date.now();
  for (;;) {
    if (Date.now() - renewed > 3000) {
      await until((c) => c.session.renew({ id: session, timeout: 5000 }));
      renewed = Date.now();
    }
    const lock = { key: "locks/one", value: name, acquire: session, timeout: 5000 };
    let came = await ask((c) => c.kv.set(lock));
    if (came === null) came = await isMine(session);
    if (!came) {
      await sleep(20);
      continue;
    }
    const since = process.hrtime.bigint();
    await sleep(20);
    console.log(`[${since}, ${process.hrtime.bigint()}]`);
    const release = { key: "locks/one", value: "", release: session, timeout: 5000 };
    while ((await ask((c) => c.kv.set(release))) === null) {
      if (!(await isMine(session))) break;
    }
    await sleep(30);
  }
}

main();
