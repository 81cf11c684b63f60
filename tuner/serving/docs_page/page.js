// Shows the API in Swagger UI. If the service needs an API key, asks for it first; the key stays in
// this page's memory.
"use strict";

const form = document.getElementById("key");
const problem = document.getElementById("problem");

async function show(key) {
  const headers = key ? { "X-API-Key": key } : {};
  const reply = await fetch("openapi.json", { headers });
  if (reply.status === 401) {
    form.hidden = false;
    problem.textContent = key ? "The service does not know this key." : "";
    return;
  }
  form.hidden = true;
  if (!reply.ok) {
    const answer = await reply.json();
    form.hidden = !key;
    problem.textContent = answer.error.message;
    return;
  }
  const spec = await reply.json();
  document.title = spec.info.title;
  document.getElementById("loading").hidden = "/predict" in spec.paths;
  const ui = SwaggerUIBundle({
    spec,
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null, // else Swagger UI asks a foreign host whether the schema is valid
    presets: [SwaggerUIBundle.presets.apis],
    onComplete: () => key && ui.preauthorizeApiKey("ApiKey", key),
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  show(document.getElementById("value").value);
});
show(null);
