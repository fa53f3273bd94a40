//! The picture: what leads into it, how one moves in it, and how it bears a long run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use layers::conform::verdict_of_troubles;
use layers::event_budget::Events;
use layers::report::html::{Traced, write};
use layers::rules::Judge;
use layers::verdict::Verdict;
use layers::version::Version;
use layers_trace::{Callback, Event, Field, Kind, Text};
use serde_json::json;

use super::browser::Browser;
use super::{broken, page};

#[test]
fn a_finding_leads_to_its_calls_and_they_say_their_arguments() {
    let (_folder, file) = broken();
    let mut browser = Browser::start();
    // All lanes are in sight.
    browser.size(1400, 1000);
    browser.open(&file, "");
    browser.click("#finding-0 .button");
    assert!(browser.text("#marking").starts_with("2 calls marked: close."), "{}", browser.text("#marking"));
    assert_eq!(browser.value("location.hash"), "#run-0/finding-0");
    let selected = browser.text("#selected");
    assert!(selected.contains("it is one of the calls that conflict"), "{selected}");
    assert_eq!(browser.value("document.querySelectorAll('#calls .marked').length > 0"), true);
    // The first of them is the open whose handle is never closed.
    browser.key("p");
    browser.settle();
    let selected = browser.text("#selected");
    assert!(selected.contains("CallopenWhereL"), "{selected}");
    assert!(selected.contains("Arguments\"\""), "{selected}");
    let hover = requests(&mut browser);
    assert!(
        hover.iter().any(|one| one.starts_with("Goclients, client 1") && one.contains("\"\"")),
        "{hover:?}"
    );
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

/// Where the picture is in the window: left, top, width, height.
fn place(browser: &mut Browser) -> (f64, f64, f64, f64) {
    let (x, y) = browser.middle("#canvas");
    let canvas = "document.querySelector('#canvas')";
    let mut size = |side| browser.value(&format!("{canvas}.{side}")).as_f64().unwrap();
    let (width, height) = (size("clientWidth"), size("clientHeight"));
    (x - width / 2.0, y - height / 2.0, width, height)
}

/// What the page says with the mouse at this point, if anything.
fn hovered(browser: &mut Browser, point: (f64, f64)) -> Option<String> {
    browser.mouse("mouseMoved", point);
    let shown = browser.value("document.querySelector('#hover').hidden") == false;
    shown.then(|| browser.text("#hover"))
}

/// What it says of the requests of the first client, which have the second lane, from left to right.
fn requests(browser: &mut Browser) -> Vec<String> {
    let (left, top, width, _) = place(browser);
    let mut said: Vec<String> = (190..width as u32)
        .step_by(9)
        .filter_map(|across| hovered(browser, (left + f64::from(across), top + 48.0)))
        .collect();
    said.dedup();
    said
}

/// Where the first open is.
const FIRST_OPEN: &str = "(() => {
  const run = JSON.parse(document.getElementById('run-0-data').textContent);
  const sum = (numbers) => numbers.reduce((one, other) => one + other, 0);
  const item = run.name_of.indexOf(run.names.findIndex(([name]) => name === 'open'));
  const event = sum(run.begins.slice(0, item + 1));
  return '#run-0/call-' + sum(run.positions.slice(0, event + 1));
})()";

#[test]
fn every_key_does_what_the_page_says() {
    let (_folder, file) = page(&["trace", "--scenario", "classical"], 0);
    let mut browser = Browser::start();
    browser.open(&file, "");
    // Tab comes by everything.
    let mut reached = Vec::new();
    for _ in 0..40 {
        browser.key("Tab");
        reached.push(browser.value("document.activeElement.id").as_str().unwrap().to_owned());
        if reached.last().is_some_and(|id| id == "canvas") {
            break;
        }
    }
    for id in ["theme", "run", "lanes", "in", "out", "fit", "canvas"] {
        assert!(reached.iter().any(|one| one == id), "{id}: {reached:?}");
    }
    let mut press = |key: &str| {
        browser.key(key);
        browser.settle();
        browser.text("#selected")
    };
    let first = press("ArrowRight");
    assert!(first.contains("CallLayer"), "{first}");
    let last = press("End");
    assert!(last.contains("End"), "{last}");
    assert_eq!(press("Home"), first);
    // From the client's first request down into the layers, and into what they call.
    let moved: Vec<String> = ["ArrowDown", "ArrowRight", "ArrowLeft", "ArrowUp"].map(&mut press).into();
    assert!(moved.windows(2).all(|two| two[0] != two[1]), "{moved:?}");
    browser.value(&format!("location.hash = {FIRST_OPEN}"));
    browser.settle();
    let outer = browser.text("#selected");
    assert!(outer.contains("Callopen"), "{outer}");
    browser.key("Enter");
    browser.settle();
    let inner = browser.text("#selected");
    assert!(inner.contains("Inside"), "{inner}");
    browser.key("Escape");
    browser.settle();
    assert_eq!(browser.text("#selected"), outer);
    // The list is another way to the same.
    for _ in 0..40 {
        browser.key("Tab");
        if browser.value("document.activeElement.id") == "calls" {
            break;
        }
    }
    browser.key("ArrowDown");
    browser.settle();
    assert_ne!(browser.text("#selected"), outer);
    let active =
        "document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).ariaSelected";
    assert_eq!(browser.value(active), "true");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn a_session_of_haproxy_has_a_lane_for_each_appctx() {
    let (_folder, file) = page(&["conform", "haproxy", "--only", "cli/plain"], 0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("Nothing was found."), "{text}");
    let (_folder, file) = page(&["trace", "--scenario", "cli/plain"], 0);
    let mut browser = Browser::start();
    browser.open(&file, "");
    let lines = browser.text("#calls");
    assert!(lines.contains("appctx 1, thread 1"), "{lines}");
    browser.value("document.querySelector('#lanes').value = 'thread', document.querySelector('#lanes').dispatchEvent(new Event('change'))");
    browser.settle();
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn the_wheel_zooms_and_dragging_moves() {
    let (_folder, file) = page(&["trace", "--scenario", "classical"], 0);
    let mut browser = Browser::start();
    browser.open(&file, "");
    let whole = requests(&mut browser);
    assert!(whole.len() > 10 && whole[0].starts_with("Connect"), "{whole:?}");
    let middle = browser.middle("#canvas");
    browser.zoom(middle);
    let near = requests(&mut browser);
    assert!(near.len() < whole.len() && near.iter().all(|one| whole.contains(one)), "{near:?}");
    browser.mouse("mousePressed", middle);
    browser.mouse("mouseMoved", (middle.0 - 150.0, middle.1));
    browser.mouse("mouseMoved", (middle.0 - 300.0, middle.1));
    browser.mouse("mouseReleased", (middle.0 - 300.0, middle.1));
    browser.settle();
    let later = requests(&mut browser);
    let last = |some: &[String]| whole.iter().position(|one| Some(one) == some.last()).unwrap();
    assert!(last(&later) > last(&near), "{later:?} after {near:?}");
    browser.click("#fit");
    assert_eq!(requests(&mut browser), whole);
}

#[test]
fn recorded_traces_are_drawn_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let trace = |name: &str| {
        let file = folder.path().join(name.replace('/', "-")).display().to_string();
        page(&["trace", "--scenario", name, "--save", &file], 0);
        file
    };
    let (_folder, file) = page(&["check", &trace("classical"), &trace("depth/1")], 0);
    let mut browser = Browser::start();
    browser.open(&file, "#run-1");
    let runs = browser.value("[...document.querySelector('#run').options].map(run => run.textContent)");
    assert_eq!(runs.as_array().unwrap().len(), 2, "{runs}");
    assert_eq!(browser.value("document.querySelector('#run').value"), "1");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn a_hundred_thousand_calls_are_drawn_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = long(folder.path(), 100_000);
    let size = std::fs::metadata(&file).unwrap().len();
    let mut browser = Browser::start();
    let begin = Instant::now();
    browser.open(&file, "");
    println!("100 000 calls: {size} bytes, open after {:?}", begin.elapsed());
    assert_eq!(browser.text("#count"), "100,000");
    // What the page's own thread has worked, however busy the machine is.
    browser.ask("Performance.enable", json!({"timeDomain": "threadTicks"}));
    let canvas = browser.middle("#canvas");
    browser.mouse("mousePressed", canvas);
    browser.mouse("mouseReleased", canvas);
    let mut times = Vec::new();
    for step in 0..60 {
        let before = worked(&mut browser);
        browser.key(["+", "ArrowRight", "ArrowDown", "-", "End", "Home"][step / 10]);
        browser.settle();
        times.push(worked(&mut browser) - before);
    }
    for top in [1e6, 2e6, 0.0] {
        let before = worked(&mut browser);
        browser.value(&format!("document.querySelector('#calls').scrollTop = {top}"));
        browser.settle();
        times.push(worked(&mut browser) - before);
    }
    times.sort_by(f64::total_cmp);
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    let count = browser.value("document.querySelectorAll('*').length").as_u64().unwrap();
    println!("for a key: {median:.1} ms, {slowest:.1} ms at most; {count} elements");
    assert!(slowest < 100.0, "{times:?}");
    assert!(count < 1500, "{count} elements");
    assert!(size < 8 << 20, "{size} bytes");
}

/// Milliseconds that the page's thread has worked so far.
fn worked(browser: &mut Browser) -> f64 {
    let metrics = browser.ask("Performance.getMetrics", json!({}));
    let metric = metrics["metrics"].as_array().unwrap().iter().find(|one| one["name"] == "TaskDuration");
    metric.unwrap()["value"].as_f64().unwrap() * 1000.0
}

/// The page of a run of so many calls: four layers, eight threads that read at the same time.
fn long(folder: &Path, calls: u32) -> PathBuf {
    let mut events: Vec<Event> = Vec::new();
    let mut threads = [const { Vec::new() }; 8];
    let mut made = 0;
    loop {
        let number = events.len() as u32;
        let turn = (number.wrapping_mul(2_654_435_761) >> 16) % 8;
        // When all calls are made, those that are open come to their end.
        let thread =
            if made < calls { Some(turn as usize) } else { threads.iter().position(|open| !open.is_empty()) };
        let Some(thread) = thread else { break };
        let open: &mut Vec<u32> = &mut threads[thread];
        let thread = thread as u32;
        if open.len() == 4 || made == calls {
            let call = open.pop().unwrap();
            events.push(event(number, Kind::Exit, 3 - open.len() as u32, thread, call));
        } else {
            events.push(event(number, Kind::Enter, 3 - open.len() as u32, thread, number));
            open.push(number);
            made += 1;
        }
    }
    written(folder, events.into())
}

fn event(position: u32, kind: Kind, layer: u32, thread: u32, call: u32) -> Event {
    Event {
        position,
        kind,
        layer: layer as u8,
        number: Callback::Pread as u8,
        tid: 100 + thread,
        pid: 100,
        call,
        handle: 1 + layer,
        time: 0,
        context: 0,
        a: if kind == Kind::Enter { u64::from(position) * 512 } else { 0 },
        b: 0,
        c: 512,
        d: 0,
        texts: Vec::new(),
    }
}

fn written(folder: &Path, events: Events) -> PathBuf {
    let judgement = Judge::new([], Version(1, 32, 5)).finish();
    let verdict = verdict_of_troubles(&[]).unwrap_or(Verdict::Pass);
    let traced = Traced { name: "long", judgement: &judgement, events: &events, verdict: &verdict };
    let file = folder.join("long.html");
    write(&mut std::fs::File::create(&file).unwrap(), &[traced], None).unwrap();
    file
}

#[test]
fn a_name_that_is_markup_stays_a_name() {
    let hostile = "</script><img src=x onerror=\"document.title='taken'\">";
    let mut open = event(0, Kind::Enter, 0, 0, 0);
    open.number = Callback::Open as u8;
    open.texts.push(Text { field: Field::Export, bytes: hostile.into(), cut: false });
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), Arc::new([open]));
    let mut browser = Browser::start();
    browser.open(&file, "#run-0/call-0");
    let selected = browser.text("#selected");
    assert!(selected.contains("</script><img src=x onerror="), "{selected}");
    assert_eq!(browser.value("document.images.length"), 0);
    let other = tempfile::tempdir().unwrap();
    let empty = written(other.path(), Arc::new([]));
    browser.open(&empty, "#run-0/call-7");
    assert!(browser.complaints().is_empty(), "a run without events: {:?}", browser.complaints());
    // A subject that no server can load, and whose name is what it is.
    let (_folder, file) = page(&["validate", hostile], 5);
    browser.open(&file, "");
    assert_eq!(browser.text("h1"), hostile);
    assert_eq!(browser.value("document.images.length"), 0);
    assert_ne!(browser.value("document.title"), "taken");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}
