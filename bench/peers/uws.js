// The hub as a uWebSockets server: every topic's messages go to its subscribers through the
// library's own publish, which collects what a turn of the event loop publishes and writes it to
// each subscriber at once. The C++ does all but one call for each published message.
//
// It is uWebSockets.js 20.30 in the build that the npm package @trufflesuite/uws-js-unofficial
// carries: the authors' own package is not in the npm registry.
//
//   node uws.js      prints the port that it listens on, then serves until it is killed
const uws = require('@trufflesuite/uws-js-unofficial/dist/uws.js');

const app = uws.App();
app.ws('/ws/:topic', {
  compression: uws.DISABLED,
  idleTimeout: 120,
  // Backpressure must cost memory here, not messages: the default drops them past 64 KiB.
  maxBackpressure: 64 * 1024 * 1024,
  upgrade: (response, request, context) => {
    response.upgrade(
      { topic: request.getParameter(0) },
      request.getHeader('sec-websocket-key'),
      request.getHeader('sec-websocket-protocol'),
      request.getHeader('sec-websocket-extensions'),
      context,
    );
  },
  open: (ws) => ws.subscribe(ws.topic),
  message: (ws, message, isBinary) => app.publish(ws.topic, message, isBinary),
});
app.listen('127.0.0.1', 0, (socket) => console.log(uws.us_socket_local_port(socket)));
