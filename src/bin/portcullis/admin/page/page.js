"use strict";
fetch("/api/status")
  .then((reply) => reply.json())
  .then((status) => {
    document.getElementById("status").textContent = JSON.stringify(status, null, 2);
  });
