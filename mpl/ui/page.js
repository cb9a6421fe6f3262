() => {
  // Videos come and go with the panels; each begins by itself, silently, unless the person wants less motion.
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const begin = (event) => {
    const video = event.target;
    if (!video.matches?.(".stage video")) return;
    video.muted = true;
    if (!still.matches) video.play().catch(() => {}); // a browser may refuse; the controls remain
  };
  document.addEventListener("loadeddata", begin, true);

  // A video dropped anywhere but on a place of its own is restored from.
  const files = (event) => [...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file");
  const elsewhere = (event) => files(event) && !event.target.closest?.(".block:has(input[type=file])");
  document.addEventListener("dragover", (event) => elsewhere(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    const input = document.querySelector("#restore input[type=file]");
    if (!input || !elsewhere(event)) return;
    event.preventDefault();
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
