// Puts the newest content in place every 30 seconds, unless somebody is typing or looks elsewhere.
"use strict";
(() => {
  const main = () => document.getElementById("content");
  const busy = () =>
    document.hidden || (main().contains(document.activeElement) && document.activeElement !== main());
  const renew = async () => {
    if (busy() || document.querySelector("main form.typed")) return;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("content");
      if (fresh && fresh.innerHTML !== main().innerHTML) main().replaceWith(fresh);
    } catch {
      // the agent is away; what is shown says as of when it is
    }
  };
  document.addEventListener("input", (event) => event.target.form?.classList.add("typed"));
  if (document.body.dataset.refresh) setInterval(renew, Number(document.body.dataset.refresh) * 1000);
})();
