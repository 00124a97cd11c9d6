// Replaces the part of the page that changes by itself, while it says that something is going on. Without scripts the
// page reloads as a whole, and every button is an ordinary form.
"use strict";
(() => {
  const said = document.getElementById("said");

  const isBusy = (part) => part.contains(document.activeElement) && document.activeElement.matches("input, select");

  const replace = (old, fresh) => {
    if (old.outerHTML === fresh.outerHTML) return;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...old.querySelectorAll("details[open][id]")].map((part) => part.id);
    const words = fresh.dataset.said ?? "";
    if (words && words !== old.dataset.said) said.textContent = words;
    if (!words && old.dataset.said) said.textContent = "It has ended.";
    old.replaceWith(fresh);
    open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
    if (focused) (document.getElementById(focused) ?? document.getElementById("main")).focus({ preventScroll: true });
  };

  const look = async () => {
    const old = document.querySelector("[data-refresh]");
    if (!old) return;
    try {
      if (!document.hidden && !isBusy(old)) {
        const answer = await fetch(location.href, { credentials: "same-origin" });
        if (answer.redirected && new URL(answer.url).pathname === "/login") {
          location.reload();
          return;
        }
        if (answer.ok) {
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const fresh = page.getElementById(old.id);
          if (fresh) replace(old, document.importNode(fresh, true));
        }
      }
    } catch {
      // The server is away for a moment: the next look finds it again.
    }
    wait();
  };

  const wait = () => {
    const part = document.querySelector("[data-refresh]");
    if (part) setTimeout(look, 1000 * Number(part.dataset.refresh));
  };

  wait();
})();
