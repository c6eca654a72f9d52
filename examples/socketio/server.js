// A Socket.IO server with its defaults. It says who answers: PORT tells servers apart.

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const port = Number(process.env.PORT ?? 3001);
const http = createServer();
const io = new Server(http);

io.on("connection", (socket) => {
  socket.on("say", (text, answer) => answer(`${port}: ${text}`));
});

http.listen(port, "127.0.0.1", () => console.log(`listening on ${port}`));
