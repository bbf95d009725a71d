"use strict";
// Forms that carry the answer of a security key (WebAuthn): data-options is what the server asks.
(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  const asked = (options) => {
    options.challenge = bytes(options.challenge);
    if (options.user) options.user.id = bytes(options.user.id);
    for (const name of ["allowCredentials", "excludeCredentials"])
      for (const one of options[name] ?? []) one.id = bytes(one.id);
    return { publicKey: options };
  };

  const answered = (credential) => {
    const response = {};
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"])
      if (credential.response[name]) response[name] = text(credential.response[name]);
    return JSON.stringify({ id: credential.id, rawId: text(credential.rawId), type: credential.type, response });
  };

  for (const form of document.querySelectorAll("form[data-webauthn]")) {
    form.addEventListener("submit", async (event) => {
      if (form.elements.credential.value) return;
      event.preventDefault();
      const said = form.querySelector("[role=alert]");
      try {
        if (!navigator.credentials) throw new Error("this browser has no security keys here: they need HTTPS");
        const options = asked(JSON.parse(form.dataset.options));
        form.elements.credential.value = answered(await navigator.credentials[form.dataset.webauthn](options));
        form.requestSubmit();
      } catch (error) {
        said.textContent = `The key did not answer: ${error.message}`;
        said.hidden = false;
      }
    });
  }
})();
