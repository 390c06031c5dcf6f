//! What the kernel thinks of its wall clock.

/// Whether the kernel was told that its wall clock is right: whoever compares it
/// with others (chrony, ntpd, systemd-timesyncd) says so, and the kernel doubts it
/// again once nobody has for hours.
#[must_use]
pub fn clock_is_synchronized() -> bool {
    // SAFETY: zero is a value of each of its fields, all of them integers.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure lives for the call; no mode is set, so nothing is changed.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    answer >= 0 && answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0
}
