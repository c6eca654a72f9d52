// The article's server, completed where its text was cut off: what closes a bracket, the call of
// `app.ws`, and the port. Nothing in it knows of Tidewire.
const express = require('express');
const app = express();
const path = require('path');
const expressWs = require('express-ws')(app);

// Serve web page HTML
app.get('/ws', (req, res) => {
    res.sendFile(path.join(__dirname + '/index.html'));
});

// WebSocket function
app.ws('/ws/echo', (ws, req) => {
    // receive a message from a client
    ws.on('message', msg => {

        // broadcast message to all clients
        var wss = expressWs.getWss();
        wss.clients.forEach(client => client.send("Received: " + msg));
    });
});

const port = process.env.PORT || 3000;
app.listen(port, () => console.log(`WebSocket server on port ${port}`));
