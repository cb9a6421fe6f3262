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
