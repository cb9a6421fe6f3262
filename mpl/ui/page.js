() => {
  // Videos come and go with the panels; each begins by itself, silently, unless the person wants less motion: by the
  // system's settings, or by the button that pauses and plays everything.
  const page = document.documentElement;
  const LOOPS = ".stage video";
  const play = (video) => video.play().catch(() => {}); // a browser may refuse; the controls remain
  const hold = (still) => {
    page.dataset.still = still;
    const button = document.querySelector("#motion");
    if (button) button.textContent = still ? "Play all videos" : "Pause all videos";
  };
  hold(matchMedia("(prefers-reduced-motion: reduce)").matches);
  const begin = ({ target: video }) => {
    if (!video.matches?.(LOOPS)) return;
    video.muted = true;
    if (page.dataset.still !== "true") play(video);
  };
  document.addEventListener("loadedmetadata", begin, true); // phones load no more until something plays
  document.addEventListener("loadeddata", begin, true);
  document.addEventListener("click", ({ target }) => {
    if (!target.closest?.("#motion")) return;
    const still = page.dataset.still !== "true";
    hold(still);
    if (still) document.querySelectorAll("video").forEach((video) => video.pause());
    else document.querySelectorAll(LOOPS).forEach(play);
    document.dispatchEvent(new Event(still ? "mpl:pause" : "mpl:play"));
  });

  // The toolkit names no group of radio buttons, and gives each button a name of its own, which leaves them without the
  // arrow keys and with a tab stop each.
  const radios = (group) => [...group.querySelectorAll("input[type=radio]")];
  const reach = (group) => {
    const all = radios(group);
    const one = all.find((radio) => radio.checked) ?? all[0];
    for (const radio of all) radio.tabIndex = radio === one ? 0 : -1;
  };
  const name = (group) => {
    if (!group.querySelector("input[type=radio]")) return;
    group.setAttribute("role", "radiogroup");
    group.setAttribute("aria-label", group.querySelector("[data-testid=block-info]")?.textContent.trim() ?? "");
    reach(group);
  };
  const groups = "fieldset.block";
  const found = () => document.querySelectorAll(`${groups}:not([role])`).forEach(name);
  new MutationObserver(found).observe(document.body, { childList: true, subtree: true });
  found();
  const around = ({ target }) => target.type === "radio" && target.closest(groups);
  for (const kind of ["change", "focusin"]) {
    document.addEventListener(kind, (event) => around(event) && reach(around(event)), true);
  }
  document.addEventListener("keydown", (event) => {
    const group = around(event);
    const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!group || !way) return;
    event.preventDefault();
    const all = radios(group);
    const next = all[(all.indexOf(event.target) + way + all.length) % all.length];
    next.focus();
    next.click();
  });

  // A video dropped anywhere but on a place that takes one is restored from; where one begins with a video of one's own,
  // it is that. A place that holds a video already, or is busy with one, takes none.
  const files = (event) => [...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file");
  const elsewhere = (event) => files(event) && !event.target.closest?.("button:has(input[type=file])");
  document.addEventListener("dragover", (event) => elsewhere(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!elsewhere(event)) return;
    event.preventDefault(); // or the browser would open the file in place of the page
    const own = event.target.closest?.("#entry");
    const input = document.querySelector(`${own ? "#source" : "#restore"} input[type=file]`);
    if (!input) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    if (!own) document.querySelector("#tabs [role=tab]")?.click();
  });
}
