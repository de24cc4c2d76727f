// The node and how it changes, as text, until there is a dashboard.
"use strict";

const state = document.getElementById("state");
const node = document.getElementById("node");
const events = new EventSource("api/v1/stream?topic=node");

events.addEventListener("hello", () => { state.textContent = "The node is up."; });
events.addEventListener("node", (event) => {
  node.textContent = JSON.stringify(JSON.parse(event.data).node, null, 2);
});
events.addEventListener("error", () => {
  state.textContent = events.readyState === EventSource.CLOSED
    ? "The session has ended: open the page by a new link."
    : "The node is gone. This page waits for it.";
});
