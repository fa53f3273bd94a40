//! The trace for ui.perfetto.dev is in Chrome's own format: the engine of Chromium's performance panel reads it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::browser::Browser;
use super::report;

/// What the engine makes of the trace in its place: slices of each process and thread, and the names of processes.
const READ: &str = r#"
(async () => {
  const { TraceModel } = await import("./trace.js");
  const model = TraceModel.Model.createWithAllHandlers();
  await model.parse(TRACE.traceEvents, { metadata: {}, isFreshRecording: false });
  const { Renderer, Meta } = model.parsedTrace(0).data;
  const threads = [...Renderer.processes].flatMap(([process, { threads }]) =>
    [...threads].map(([thread, { entries }]) => [process, thread, entries.map((entry) => entry.name)]));
  return { threads, names: [...Meta.processNames].map(([process, event]) => [process, event.args.name]) };
})()"#;

#[test]
fn chromium_reads_every_call_on_its_thread() {
    let (_folder, file) = report("perfetto", &["trace", "--scenario", "classical"], 0);
    let text = std::fs::read_to_string(file).unwrap();
    let trace: Value = serde_json::from_str(&text).unwrap();
    let mut written: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    for slice in trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X") {
        let track = (slice["pid"].as_u64().unwrap(), slice["tid"].as_u64().unwrap());
        written.entry(track).or_default().push(slice["name"].as_str().unwrap().to_owned());
    }
    let mut browser = Browser::start();
    browser.go("devtools://devtools/bundled/models/trace/trace.js");
    let said = browser.value(&READ.replace("TRACE", &text));
    let read: BTreeMap<(u64, u64), Vec<String>> = said["threads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let track = (one[0].as_u64().unwrap(), one[1].as_u64().unwrap());
            let names = one[2].as_array().unwrap();
            (track, names.iter().map(|name| name.as_str().unwrap().to_owned()).collect())
        })
        .collect();
    assert_eq!(read, written);
    assert!(written.len() > 8, "{} tracks", written.len());
    let names = said["names"].to_string();
    assert!(names.contains("L0 layers") && names.contains("clients"), "{names}");
}
