//! Disks that come and go while an agent runs: none starts over for it.

use std::fs;

use serde_json::Value;

use super::place::Place;
use super::{able, assert_sound, ends, epoch_of};

/// What a status says of the disk of this name.
fn of<'a>(status: &'a Value, name: &str) -> &'a Value {
    let disks = status["disks"].as_array().expect("disks are listed");
    disks.iter().find(|disk| disk["disk"] == name).unwrap_or_else(|| panic!("no {name} in {status}"))
}

fn read_bytes(status: &Value, name: &str) -> u64 {
    of(status, name)["read_bytes"].as_u64().expect("it is counted")
}

#[test]
fn a_disk_that_is_left_out_for_a_while_goes_on_where_it_was() {
    let Some(()) = able() else { return };
    let mut place = Place::new();
    let (first, second) = (place.disk("first"), place.disk("second"));
    let filesystems = [&first, &second].map(|disk| disk.filesystem(&place.scratch));
    let _home = place.home(&[&first, &second]);
    place.settings(&[&first, &second], "");
    let agent = place.start();
    let before = place.reaches("protecting");
    place.cut(&[]);
    place.settings(&[&first], "");
    place.agent(&["reload"]).expect_success();
    filesystems.iter().for_each(|filesystem| filesystem.write("meanwhile", 50, 7));
    let alone = place.cut(&[]);
    assert_eq!(alone["points"].as_array().map(Vec::len), Some(1), "{alone}");
    place.settings(&[&first, &second], "");
    place.agent(&["reload"]).expect_success();
    place.reaches("protecting");
    let both = place.cut(&["--name", "both"]);
    assert_eq!(both["points"].as_array().map(Vec::len), Some(2), "{both}");
    let after = place.status();
    // The lane of the first has counted on; that of the second is a new one, which
    // has read what was written and little more.
    let [kept, again] = ["first", "second"].map(|name| read_bytes(&after, name));
    assert!(kept >= read_bytes(&before, "first"), "the first one began anew: {after}");
    assert!((50 * 4096..16 << 20).contains(&again), "{again} bytes of the second were read: {after}");
    drop(filesystems);
    ends(&place, agent);
    let points = both["points"].as_array().expect("two");
    for (disk, point) in [&first, &second].into_iter().zip(points) {
        assert_eq!(point["disk"], disk.name.as_str());
        let epoch = epoch_of(&serde_json::json!({ "points": [point] }));
        let copy = place.copy(disk, epoch);
        assert_sound(&place, &format!("{}-copied", disk.name), &copy);
        // A small ext4 has blocks of a kilobyte.
        let blocks = copy.chunks(1024).filter(|block| block.iter().all(|byte| *byte == 7)).count();
        assert!(blocks >= 4 * 50, "{blocks} blocks of {} are what was written", disk.name);
        fs::remove_file(place.scratch.path(&format!("{}-{epoch}", disk.name))).expect("it is ours");
    }
}
