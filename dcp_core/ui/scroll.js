// Scroll to a part of the page when data.turn has changed. The part stays in place while what is drawn later changes the page's
// height, until someone touches the page.
//
// data: {to, turn}; the first is a selector.

const last = {}; // turn by selector

export default function ({ data }) {
  const before = last[data.to];
  last[data.to] = data.turn;
  const part = document.querySelector(data.to);
  const forget = () => delete last[data.to]; // another page is opened
  if (before === undefined || before === data.turn || !part) return forget;
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  const show = () => part.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' });
  const grown = new ResizeObserver(show); // calls at once
  grown.observe(document.querySelector('.stMainBlockContainer'));
  const stop = () => grown.disconnect();
  for (const event of ['wheel', 'touchstart', 'pointerdown', 'keydown']) window.addEventListener(event, stop, { once: true, capture: true });
  return () => {
    stop();
    forget();
  };
}
