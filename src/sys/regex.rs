//! regcomp(3) and regexec(3).

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;

/// A POSIX extended regular expression, compiled by regcomp(3) for matching only.
pub(crate) struct Regex(libc::regex_t);

impl Regex {
    /// `Err` is regerror(3)'s text.
    pub(crate) fn new(pattern: &CStr) -> Result<Regex, String> {
        let mut compiled = MaybeUninit::<libc::regex_t>::zeroed();
        let flags = libc::REG_EXTENDED | libc::REG_NOSUB;
        // SAFETY: `compiled` is valid for writes, the pattern is NUL-terminated.
        let rc = unsafe { libc::regcomp(compiled.as_mut_ptr(), pattern.as_ptr(), flags) };
        if rc == 0 {
            // SAFETY: regcomp succeeded, so it is initialised; libc keeps no pointer to the struct
            // itself, so it may move.
            return Ok(Regex(unsafe { compiled.assume_init() }));
        }
        let mut text = [0_u8; 256];
        // SAFETY: regerror reads the failed (zeroed, then partly written) regex_t only, and writes
        // at most `text.len()` bytes, the last of them NUL.
        unsafe { libc::regerror(rc, compiled.as_ptr(), text.as_mut_ptr().cast(), text.len()) };
        let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
        Err(text.to_string_lossy().into_owned())
    }

    /// Whether it matches anywhere in `subject`. `REG_ESPACE` and other failures are errors, not
    /// "no".
    #[cfg(not(target_env = "musl"))]
    pub(crate) fn is_match(&self, subject: &CStr) -> io::Result<bool> {
        self.exec(subject)
    }

    /// In a UTF-8 locale musl's regexec gives up at a byte that is no character, and says "no". Such
    /// a byte must not hide the process, so it is shown as U+FFFD.
    #[cfg(target_env = "musl")]
    pub(crate) fn is_match(&self, subject: &CStr) -> io::Result<bool> {
        if subject.to_str().is_err() && is_utf8_locale() {
            let shown = subject.to_string_lossy().into_owned();
            return self.exec(&std::ffi::CString::new(shown)?);
        }
        self.exec(subject)
    }

    fn exec(&self, subject: &CStr) -> io::Result<bool> {
        // SAFETY: compiled by regcomp and not yet freed; the subject is NUL-terminated; with
        // REG_NOSUB no match array is written.
        match unsafe { libc::regexec(&self.0, subject.as_ptr(), 0, std::ptr::null_mut(), 0) } {
            0 => Ok(true),
            libc::REG_NOMATCH => Ok(false),
            _ => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }
}

/// Whether setlocale(3) or uselocale(3) has chosen a UTF-8 locale for this thread.
#[cfg(target_env = "musl")]
fn is_utf8_locale() -> bool {
    // SAFETY: an integer. The text is NUL-terminated, and is read at once, before another call can
    // change it.
    let codeset = unsafe { CStr::from_ptr(libc::nl_langinfo(libc::CODESET)) };
    codeset == c"UTF-8"
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: compiled by regcomp and freed only here.
        unsafe { libc::regfree(&raw mut self.0) };
    }
}
