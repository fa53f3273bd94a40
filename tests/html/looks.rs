//! What the page looks like: light and dark, wide and narrow; and the grid of verdicts.

use serde_json::Value;

use super::broken;
use super::browser::Browser;

/// Texts whose contrast with the ground they stand on is less than 4.5 to 1 (WCAG 2.2, 1.4.3), each with it.
const FAINT: &str = r"
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const channels = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = channels(getComputedStyle(element).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return channels('white');
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest('script, :disabled')) continue;
    seen += 1;
    const [one, other] = [light(channels(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)} ${element.tagName}.${element.className}: ${node.data.trim().slice(0, 40)}`);
  }
  return {seen, faint};
})()";

fn is_readable(browser: &mut Browser) {
    let said = browser.value(FAINT);
    assert!(said["seen"].as_u64().unwrap() > 60, "{said}");
    assert_eq!(said["faint"], Value::Array(Vec::new()));
}

fn ground(browser: &mut Browser) -> String {
    browser.value("getComputedStyle(document.body).backgroundColor").as_str().unwrap().to_owned()
}

#[test]
fn it_can_be_read_light_and_dark_and_says_nothing_to_anybody() {
    let (_folder, file) = broken();
    let mut browser = Browser::start();
    browser.open(&file, "#run-0/finding-0");
    browser.value("document.querySelectorAll('details').forEach(one => one.open = true)");
    is_readable(&mut browser);
    let light = ground(&mut browser);
    browser.wants("dark");
    is_readable(&mut browser);
    let dark = ground(&mut browser);
    assert_ne!(light, dark);
    browser.click("#theme");
    assert_eq!(ground(&mut browser), light, "whatever the system says");
    is_readable(&mut browser);
    browser.click("#theme");
    assert_eq!(ground(&mut browser), dark);
    let documents =
        browser.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent").count();
    assert_eq!(documents, 1, "the page itself, and nothing else");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn it_fits_into_any_window() {
    let (_folder, file) = broken();
    let mut browser = Browser::start();
    browser.open(&file, "#run-0/finding-0");
    for width in [1400, 600, 360] {
        browser.size(width, 900);
        let wide = browser.value("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= u64::from(width), "{wide} in a window of {width}");
        let canvas = browser.value("document.querySelector('#canvas').clientWidth").as_u64().unwrap();
        assert!(canvas <= u64::from(width) && canvas > u64::from(width) / 2, "{canvas} of {width}");
    }
}

#[test]
fn the_grid_shows_what_is_asked_for() {
    let (_folder, file) = broken();
    let mut browser = Browser::start();
    browser.open(&file, "");
    let shown = |browser: &mut Browser| {
        let ids = browser.value("[...document.querySelectorAll('.cell')].filter(cell => cell.checkVisibility()).map(cell => cell.dataset.id)");
        ids.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = shown(&mut browser).len();
    assert!(all > 5, "{all}");
    browser.click(".choice input[value=fail]");
    let others = shown(&mut browser);
    assert!(others.len() < all && !others.iter().any(|id| id == "close.exactly-once"), "{others:?}");
    browser.click(".choice input[value=fail]");
    browser.click("#search");
    for letter in ["e", "x", "a", "c", "t", "l", "y"] {
        browser.key(letter);
    }
    assert_eq!(
        shown(&mut browser),
        ["close.exactly-once", "close.any-disconnect", "end/sigterm/connected"],
        "the rule, the one that has the same cause, and who broke it"
    );
    assert_eq!(browser.text("#shown"), format!("3 of {all} shown"));
    // A verdict leads to what is behind it.
    browser.click(".cell[data-id='close.exactly-once'] summary");
    browser.click(".cell[data-id='close.exactly-once'] a");
    let hash = browser.value("location.hash");
    let id = browser.text(&format!("{} .id", hash.as_str().unwrap()));
    assert_eq!(id, "close.exactly-once");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}
