// A link that skips the list of pages, and names for the parts of the page, for keyboards and screen readers.

export default function ({ parentElement }) {
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
  const here = [...(pages?.querySelectorAll('a') ?? [])].find((each) => each.pathname === location.pathname);
  here?.setAttribute('aria-current', 'page');
  if (here && bar) bar.scrollLeft = here.getBoundingClientRect().left - bar.getBoundingClientRect().left + bar.scrollLeft - 16;
}
