// A program of a user of npm's consul.
//
//   js_client.js HOST:PORT watch SERVICE   follows a service; tells its passing ids, a line each
//   js_client.js HOST:PORT do              does what each line says: [method, options]
const readline = require("node:readline");
const Consul = require("consul");

const [address, mode, service] = process.argv.slice(2);
const [host, port] = address.split(":");
const consul = new (Consul.default || Consul)({ host, port: Number(port) });

function find(path) {
  const parts = path.split(".");
  const name = parts.pop();
  const owner = parts.reduce((each, part) => each[part], consul);
  return owner[name].bind(owner);
}

if (mode === "watch") {
  const watch = consul.watch({
    method: consul.health.service,
    options: { service, passing: true, wait: "20s" },
    backoffFactor: 50,
    backoffMax: 500,
    maxAttempts: 1000,
  });
  watch.on("change", (found) => {
    console.log(JSON.stringify(found.map((each) => each.Service.ID).sort()));
  });
  watch.on("error", (error) => console.error(String(error)));
} else {
  readline.createInterface({ input: process.stdin }).on("line", (line) => {
    const [method, options] = JSON.parse(line);
    find(method)(options)
      .then((answer) => console.log(JSON.stringify(answer === undefined ? null : answer)))
      .catch((error) => console.log(JSON.stringify({ error: error.message })));
  });
}
