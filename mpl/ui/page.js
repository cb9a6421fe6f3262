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
}
