//! `failback image`: look at images, make, attach and detach them.

use std::path::Path;

use failback_datapath::disk::attach::{self, Options};
use failback_datapath::disk::vmdk::CreateType;
use failback_datapath::disk::{self, Disk, Place, Purpose, image};
use failback_datapath::error::Remediable;
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use crate::cli::{ImageCommand, ImageFormat};
use crate::exit::Exit;
use crate::output::{Output, Style};
use crate::paths;

type Failed = (Exit, String);

/// Runs the command.
pub fn run(command: &ImageCommand) -> Exit {
    let json =
        matches!(command, ImageCommand::Info { json: true, .. } | ImageCommand::Attach { json: true, .. });
    let output = Output::new(Style::choose(json, false));
    let done = match command {
        ImageCommand::Info { path, state, .. } => info(path, state.as_ref(), &output),
        ImageCommand::Create { path, size, format } => create(path, *size, *format),
        ImageCommand::Attach { path, read_only, sector_size, buffered, partitions, state, .. } => {
            let options = Options {
                read_only: *read_only,
                sector_size: *sector_size,
                direct_io: !buffered,
                scan_partitions: *partitions,
                ..Options::default()
            };
            check_finished(path, state.as_ref(), *read_only, &output)
                .and_then(|()| attach_image(path, options, &output))
        }
        ImageCommand::Detach { device } => attach::detach(device).map_err(of),
    };
    match done {
        Ok(()) => Exit::Success,
        Err((exit, message)) => output.error(exit, &message, None),
    }
}

fn of(error: impl Remediable) -> Failed {
    (Exit::of_remedy(error.remedy()), error.to_string())
}

fn info(path: &Path, state: Option<&std::path::PathBuf>, output: &Output) -> Result<(), Failed> {
    let disk = disk::open(path, Purpose::Inspection).map_err(of)?;
    let unfinished = paths::targets(state).mark(disk.identity()).map_err(of)?;
    // What is a device already is attached to nothing.
    let is_device = disk.kind() == disk::Kind::BlockDevice;
    let attached = if is_device { Vec::new() } else { attach::list_for(path).map_err(of)? };
    let mut text = vec![
        format!("disk:         {}", path.display()),
        format!("kind:         {}", disk.kind()),
        format!("size:         {} bytes ({})", disk.size_bytes(), BinaryBytes(disk.size_bytes())),
        format!("sector size:  {} bytes", disk.sector().bytes()),
        format!("direct I/O:   {}", if disk.is_direct() { "yes" } else { "no, through the page cache" }),
    ];
    for piece in pieces(&disk) {
        text.push(format!("extent:       {piece}"));
    }
    for attachment in &attached {
        text.push(format!("attached:     {}", attachment.device.display()));
    }
    if let Some(mark) = &unfinished {
        text.push(format!(
            "UNFINISHED:   target of a synchronization from {} that stopped at byte {}; not to be used as a disk",
            mark.body().source,
            mark.body().cursor_bytes
        ));
    }
    output.line(&text.join("\n"), || {
        let devices: Vec<_> = attached.iter().map(|attachment| attachment.device.display().to_string()).collect();
        json!({
            "event": "image", "path": path.display().to_string(), "kind": disk.kind(),
            "size_bytes": disk.size_bytes(), "sector_bytes": disk.sector().bytes(), "direct_io": disk.is_direct(),
            "extents": extents(&disk), "attached": devices,
            "unfinished": unfinished.as_ref().map(|mark| json!(mark.body())),
        })
    });
    Ok(())
}

fn pieces(disk: &Disk) -> Vec<String> {
    let files: Vec<_> = disk.file_paths().collect();
    let place = |place: &Place| match place {
        Place::Zero => "zero".to_owned(),
        Place::File { index, position, writable } => {
            let read_only = if *writable { "" } else { ", read-only" };
            format!("{} from byte {position}{read_only}", files[*index].display())
        }
    };
    disk.pieces().iter().map(|piece| format!("{} in {}", piece.extent, place(&piece.place))).collect()
}

fn extents(disk: &Disk) -> Vec<Value> {
    let files: Vec<_> = disk.file_paths().collect();
    let row = |piece: &disk::Piece| {
        let (offset, length) = (piece.extent.offset(), piece.extent.length());
        match piece.place {
            Place::Zero => json!({"offset": offset, "length": length, "zero": true}),
            Place::File { index, position, writable } => json!({
                "offset": offset, "length": length, "file": files[index].display().to_string(),
                "file_offset": position, "writable": writable,
            }),
        }
    };
    disk.pieces().iter().map(row).collect()
}

fn create(path: &Path, size_bytes: u64, format: Option<ImageFormat>) -> Result<(), Failed> {
    let is_vmdk = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("vmdk"));
    let vmdk = |create_type| image::create_vmdk_flat(path, size_bytes, create_type).map(drop);
    let made = match format.unwrap_or(if is_vmdk { ImageFormat::VmdkFlat } else { ImageFormat::Raw }) {
        ImageFormat::Raw => image::create_raw(path, size_bytes),
        ImageFormat::VmdkFlat => vmdk(CreateType::MonolithicFlat),
        ImageFormat::VmdkSplit => vmdk(CreateType::TwoGbMaxExtentFlat),
        ImageFormat::VmdkVmfs => vmdk(CreateType::Vmfs),
    };
    made.map_err(of)
}

/// What is half a disk, or is written by a master target, is never offered as a
/// disk, only for a look at it.
fn check_finished(
    path: &Path,
    state: Option<&std::path::PathBuf>,
    read_only: bool,
    output: &Output,
) -> Result<(), Failed> {
    let disk = disk::open(path, Purpose::Inspection).map_err(of)?;
    let state = paths::targets(state);
    let unfinished = state.mark(disk.identity()).map_err(of)?.map(|mark| {
        let text = mark.warning(path);
        format!("{text}; run that again")
    });
    let owner = state.owner(disk.identity(), disk.size_bytes()).map_err(of)?;
    let owned = owner.and_then(|(_, owner)| owner.warning(path));
    match unfinished.or(owned) {
        None => Ok(()),
        Some(text) if read_only => {
            output.warn(&text);
            Ok(())
        }
        Some(text) => Err((Exit::Refused, format!("{text}, or attach it with --read-only to look at it"))),
    }
}

fn attach_image(path: &Path, options: Options, output: &Output) -> Result<(), Failed> {
    let attached = attach::attach(path, options).map_err(of)?;
    output.line(&attached.device.display().to_string(), || {
        json!({
            "event": "attached", "device": attached.device.display().to_string(),
            "size_bytes": attached.size_bytes, "sector_bytes": attached.sector_size.bytes(),
            "read_only": attached.read_only, "direct_io": attached.direct_io,
        })
    });
    if options.direct_io && !attached.direct_io {
        output.warn(&format!("{}: no direct I/O here, going through the page cache", path.display()));
    }
    Ok(())
}
