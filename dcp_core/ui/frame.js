// A link that skips the list of pages, and names for the parts of the page, for keyboards and screen readers. In the view for
// a projector: keys for the steps of a page, also while a slider has the focus, and for the full screen.

const STEPS = { ArrowLeft: 'previous', ArrowRight: 'next', PageUp: 'previous', PageDown: 'next' };

export default function ({ parentElement, data }) {
  const link = parentElement.querySelector('a');
  link.onclick = (event) => {
    event.preventDefault(); // a fragment in the address would be a step of the history
    const title = document.querySelector('.stMain h1');
    title?.setAttribute('tabindex', '-1');
    title?.focus();
  };
  const pages = document.querySelector('.st-key-frame-pages');
  pages?.setAttribute('role', 'navigation');
  pages?.setAttribute('aria-label', 'Pages');
  const bar = document.querySelector('.st-key-frame-bar');
  const links = [...(pages?.querySelectorAll('a') ?? [])];
  links.forEach((each, k) => { // of the page before, the bar may still have its mark
    if (k === data.place) each.setAttribute('aria-current', 'page');
    else each.removeAttribute('aria-current');
  });
  const here = links[data.place];
  const show = () => {
    if (here && bar) bar.scrollLeft += here.getBoundingClientRect().left - bar.getBoundingClientRect().left - 16;
  };
  show();

  window.dcpFrame?.abort(); // Streamlit calls this function again, without the cleanup of the call before
  const listening = new AbortController();
  window.dcpFrame = listening;
  window.addEventListener('resize', show, { signal: listening.signal }); // a phone that is turned
  if (data.presenting) document.addEventListener('keydown', present, { capture: true, signal: listening.signal });
  return () => listening.abort();
}

/** Take the keys of a presenter; those of text fields and of menus are left alone. */
function present(event) {
  const field = event.target.closest?.('input:not([type=range]), textarea, [role=combobox], [role=dialog]');
  if (field || event.ctrlKey || event.metaKey || event.altKey) return;
  const button = document.querySelector(`.st-key-${STEPS[event.key]} button`);
  if (button) {
    event.preventDefault();
    event.stopImmediatePropagation();
    button.click();
  } else if (event.key === 'f') {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen();
  }
}
