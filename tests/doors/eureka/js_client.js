// A program with eureka-js-client: it registers, discovers, and does what its standard input says.
//
// Arguments: the servers, its application, its host name (which is its instance id), its port, and
// whether it asks for deltas.  Each line of input is answered with one line of JSON.  (To this client,
// two instances of the same host name and port are one.)

const readline = require("readline");
const { Eureka } = require("eureka-js-client");

const [servers, app, hostName, port, delta] = process.argv.slice(2);
const log = (...words) => console.error(...words);
const client = new Eureka({
  logger: { debug() {}, info: log, warn: log, error: log },
  shouldUseDelta: delta === "delta",
  instance: {
    app,
    hostName,
    ipAddr: "127.0.0.1",
    port: { $: Number(port), "@enabled": "true" },
    vipAddress: app,
    dataCenterInfo: { name: "MyOwn" },
    leaseInfo: { durationInSecs: 4 },
  },
  eureka: {
    serviceUrls: { default: servers.split(",").map((url) => `${url}/apps/`) },
    heartbeatInterval: 1000,
    registryFetchInterval: 500,
    requestRetryDelay: 50,
    filterUpInstances: false,
  },
});

client.start((error) => {
  if (error) {
    log("not started", error);
    process.exit(1);
  }
  readline.createInterface({ input: process.stdin }).on("line", (line) => {
    const [word, name] = line.split(" ");
    if (word === "see") {
      const found = client.getInstancesByAppId(name);
      const shown = Object.fromEntries(found.map((one) => [one.instanceId, one.status]));
      console.log(JSON.stringify(shown));
    } else {
      client.stop(() => process.exit(0));
    }
  });
});
