//! HAProxy instrument: records every call of the keywords of its command line and of its applets.
//!
//! It is loaded into an unmodified server, by `LD_PRELOAD` or as a Lua module, and finds everything it needs at run
//! time: functions by name, fields by what those functions do to a fake appctx, keywords by the list that its own
//! keywords are put into, applets by how they look in the server's data. It never judges, and it never asserts: what is not
//! found is not recorded, and the trace says so.

mod appctx;
mod applets;
mod call;
mod instrument;
mod keywords;
mod layout;
mod memory;
mod own;
mod server;
mod slots;
mod symbols;
mod trampoline_table;

use std::ffi::{c_int, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use layers_behaviour::Found;
use layers_trace::handover::DIRECTORY_VARIABLE;
use layers_trace::{TRACE_VARIABLE, Writer, watched};

use instrument::{INSTRUMENT, Instrument, complain, instrument, is_watched};
use layout::Layout;
use server::Server;

/// Before the server reads its configuration: applets and services are copied from then on.
fn begin() {
    static BEGUN: AtomicBool = AtomicBool::new(false);
    // Whatever program inherits the environment loads this file, too.
    let Some(server) = Server::find() else { return };
    let Some(path) = std::env::var_os(TRACE_VARIABLE).map(PathBuf::from).or_else(|| watched_trace(&server))
    else {
        return;
    };
    if BEGUN.swap(true, Ordering::Relaxed) {
        return;
    }
    let writer = match Writer::attach(&path) {
        Ok(writer) => writer,
        Err(error) => return complain(&format!("cannot record into `{}`: {error}", path.display())),
    };
    let layout = Layout::discover(&server);
    let image = memory::Image::around(server.register_keywords as usize);
    let instrument = INSTRUMENT.get_or_init(|| Instrument { writer, server, layout, image });
    instrument.layout.note(&instrument.writer, true);
    applets::wrap(instrument);
    if is_watched() {
        own::register_none(instrument);
    } else {
        own::register(instrument);
        own::service::register(instrument);
    }
    // SAFETY: the server's function, which keeps the pointer to ours.
    unsafe { (instrument.server.register_post_check)(checked) };
}

/// Makes a trace for a server that somebody else has started, where `layers watch` asks for it.
fn watched_trace(server: &Server) -> Option<PathBuf> {
    std::env::var_os(DIRECTORY_VARIABLE.to_str().unwrap_or_default())?;
    let found = Found {
        found: "haproxy".to_owned(),
        version: server.version.clone(),
        pid: std::process::id(),
        directory: std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned(),
        activated: false,
    };
    let found = serde_json::to_vec(&found).unwrap_or_default();
    let begun = watched::begin("haproxy", &found);
    begun.map_err(|error| watched::unwatched(&format!("no trace can be made: {error}"))).ok()
}

/// The configuration has been read, and the server has no thread yet: every keyword is registered.
extern "C" fn checked() -> c_int {
    if let Some(instrument) = instrument() {
        keywords::wrap(instrument);
        applets::wrap_made(instrument);
    }
    0
}

extern "C" fn loaded() {
    begin();
}

/// Run when this file is loaded by `LD_PRELOAD`; when it is loaded by Lua, the executable is there already, too.
#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = loaded;

/// For `require("layers_applet")` in Lua: everything has been done when the file was loaded.
#[unsafe(no_mangle)]
pub extern "C" fn luaopen_layers_applet(_lua: *mut c_void) -> c_int {
    begin();
    0
}
