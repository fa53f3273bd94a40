//! The instrument as a Lua module does what it does with LD_PRELOAD.

use layers::scenario::{SessionPlayer, named};
use layers::server::haproxy::{Haproxy, Loading};
use layers::tree::tree;

use super::play;

#[test]
fn a_lua_module_records_what_a_preloaded_one_records() {
    let server = Haproxy::find(None).unwrap();
    for name in ["load/lua", "load/lua-per-thread"] {
        let of_module = play(name);
        let mut scenario = named::find(name).unwrap();
        scenario.session.as_mut().unwrap().load = Loading::Preload;
        let player = SessionPlayer { keep_events: true, ..SessionPlayer::new(&server) };
        let preloaded = player.play(&scenario).unwrap();
        assert_eq!(tree(&of_module.events), tree(&preloaded.events), "{name}");
        let wrapped = [&of_module, &preloaded].map(|recording| recording.judgement.history.wrapped());
        assert_eq!(wrapped[0], wrapped[1], "{name}");
        assert!(wrapped[0].keywords > 0 && wrapped[0].applets > 0, "{wrapped:?}");
        assert_eq!(of_module.judgement.findings().count(), 0, "{name}");
    }
}
