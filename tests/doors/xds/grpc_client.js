// A gRPC client in JavaScript, as anybody would write it: nothing here knows of Waypost.
// Reads how many calls to make, a line at a time, and writes who answered each.
const grpc = require("@grpc/grpc-js");
require("@grpc/grpc-js-xds").register();

const same = (bytes) => bytes;
const method = {
  path: "/test.Echo/Who", requestStream: false, responseStream: false,
  requestSerialize: same, requestDeserialize: same,
  responseSerialize: same, responseDeserialize: same,
};
const Echo = grpc.makeGenericClientConstructor({ who: method }, "Echo");
const client = new Echo(process.argv[2], grpc.credentials.createInsecure());

const call = () => new Promise((done) => {
  const deadline = Date.now() + 5000;
  client.who(Buffer.alloc(0), { deadline }, (error, answer) => {
    done(error ? `${grpc.status[error.code]}: ${error.details}` : answer.toString());
  });
});

const lines = require("readline").createInterface({ input: process.stdin });
(async () => {
  for await (const line of lines) {
    const heard = {};
    for (let count = Number(line); count > 0; count--) {
      const answer = await call();
      heard[answer] = (heard[answer] || 0) + 1;
    }
    process.stdout.write(JSON.stringify(heard) + "\n");
  }
  process.exit(0);
})();
