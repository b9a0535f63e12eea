// Ours, not part of swagger-ui-dist: a file of its own, because the page's policy allows no inline scripts.
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null,
  tryItOutEnabled: true,
});
