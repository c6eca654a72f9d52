// The hub as express-ws servers have it in the tutorials: a loop over all clients of the process,
// here with the one condition that keeps topics apart.
//
//   node express.js      prints the port that it listens on, then serves until it is killed
const app = require('express')();
const expressWs = require('express-ws')(app);

app.ws('/ws/:topic', (ws, request) => {
  ws.topic = request.params.topic;
  ws.on('message', (message) => {
    expressWs.getWss().clients.forEach((client) => {
      if (client.topic === ws.topic) client.send(message);
    });
  });
});
const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
