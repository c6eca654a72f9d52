// Socket.IO clients with their defaults: long-polling first, then WebSocket. Each says something on
// both, and the program prints a line of JSON for each client: who has answered, and how.
//
//   node client.js URL [CLIENTS] [OPTIONS AS JSON]

const { io } = require("socket.io-client");

const [url, count = "1", options = "{}"] = process.argv.slice(2);
const transports = JSON.parse(options).transports;
const upgrades = !transports || transports.length > 1;

function client() {
  return new Promise((done) => {
    const socket = io(url, { forceNew: true, reconnection: false, ...JSON.parse(options) });
    const answers = [];
    const end = (error) => {
      const transport = socket.io.engine?.transport?.name;
      done({ answers, transport, error });
      socket.close();
    };
    setTimeout(end, 8000, "nothing comes any more");
    const say = async (text) => answers.push(await socket.timeout(5000).emitWithAck("say", text));
    socket.on("connect_error", (error) => end(error.description?.context?.responseText || error.message));
    socket.on("disconnect", (reason) => end(reason));
    socket.on("connect", async () => {
      try {
        const engine = socket.io.engine;
        const upgraded = new Promise((is) => engine.once("upgrade", is));
        await say("hello");
        await say("and again");
        if (upgrades && engine.transport.name === "polling") await upgraded;
        await say("and by the last transport");
        end();
      } catch (error) {
        end(error.message);
      }
    });
  });
}

Promise.all(Array.from({ length: Number(count) }, client)).then((clients) => {
  clients.forEach((it) => console.log(JSON.stringify(it)));
  process.exit(clients.some((it) => it.error) ? 1 : 0);
});
