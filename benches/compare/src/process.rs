//! A server in a child process, observed through `/proc`.

use crate::{
    entry::{Entry, Setup, Start},
    server,
};
use harness::{BoxError, proc};
use nix::{
    sys::signal::{Signal, kill},
    time::ClockId,
    unistd::Pid,
};
use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use tokio::time::Instant;

/// First argument of a server's process; name, port, backend and folder follow.
pub(crate) const SERVE: &str = "serve";

/// First argument of a process that becomes another program which ends with this one.
pub(crate) const BECOME: &str = "become";

/// A running server. It ends when this is dropped, and with it its own backend.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    external: bool,
    _backend: Option<Box<Self>>,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// Starts a server, and before it the backend of this name if it forwards.
    pub(crate) fn start(entry: &Entry, backend: &str, folder: &Path) -> Result<Self, BoxError> {
        let backend = match entry.forwards {
            true => {
                let entry = server::find(backend).ok_or("no backend")?;
                Some(Box::new(Self::start(entry, backend, folder)?))
            }
            false => None,
        };
        let mut setup = Setup {
            port: 0,
            backend: backend.as_ref().map(|backend| backend.address),
            folder: folder.to_owned(),
        };
        match entry.start {
            Start::Here(_) => Self::start_here(entry.name, &setup, backend),
            Start::External { configure, .. } => {
                setup.port = free_port()?;
                Self::start_external(&configure(&setup)?, &setup, backend)
            }
        }
    }

    fn start_here(name: &str, setup: &Setup, backend: Option<Box<Self>>) -> Result<Self, BoxError> {
        let upstream = setup
            .backend
            .map_or("-".to_owned(), |address| address.to_string());
        let mut child = Command::new(env::current_exe()?)
            .args([SERVE, name, "0", &upstream])
            .arg(&setup.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let Ok(address) = line.trim().parse() else {
            let _ = child.kill();
            return Err(format!("{name} did not start: {}", child.wait()?).into());
        };
        Ok(Self {
            child,
            external: false,
            _backend: backend,
            address,
        })
    }

    fn start_external(
        command: &Command,
        setup: &Setup,
        backend: Option<Box<Self>>,
    ) -> Result<Self, BoxError> {
        let program = command.get_program().display();
        let log = setup.folder.join(format!("{program}-{}.log", setup.port));
        let mut child = Command::new(env::current_exe()?)
            .arg(BECOME)
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, setup.port));
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = child.try_wait()? {
                let said = fs::read_to_string(&log)?;
                let said = said.lines().last().unwrap_or_default();
                return Err(format!("{program} did not start: {status}, {said}").into());
            }
            if begun.elapsed() > PATIENCE {
                let _ = child.kill();
                return Err(format!("{program} does not listen").into());
            }
            pause(Duration::from_millis(10));
        }
        Ok(Self {
            child,
            external: true,
            _backend: backend,
            address,
        })
    }

    /// What the server has used so far, all of its processes together; not its backend.
    pub(crate) fn cpu(&self) -> Result<Cpu, BoxError> {
        let mut sum = Cpu::default();
        for pid in self.tree()? {
            sum = sum + Cpu::of(pid)?;
        }
        Ok(sum)
    }

    /// Resident bytes of all of its processes.
    pub(crate) fn resident(&self) -> Result<f64, BoxError> {
        let mut sum = 0.0;
        for pid in self.tree()? {
            sum += proc::resident(u32::try_from(pid)?)?;
        }
        Ok(sum)
    }

    /// The process and its children; no server here has grandchildren.
    fn tree(&self) -> Result<Vec<i32>, BoxError> {
        let pid = i32::try_from(self.child.id())?;
        let mut tree = vec![pid];
        if self.external {
            for entry in fs::read_dir("/proc")? {
                let Ok(other) = entry?.file_name().to_string_lossy().parse::<i32>() else {
                    continue;
                };
                // It may have ended meanwhile.
                let stat = fs::read_to_string(format!("/proc/{other}/stat")).unwrap_or_default();
                if Stat::parse(&stat).is_some_and(|stat| stat.parent == pid) {
                    tree.push(other);
                }
            }
        }
        Ok(tree)
    }

    /// Asks the server to stop, and waits for its end. Returns the CPU that it used since `before`.
    pub(crate) fn drain(&mut self, before: Cpu) -> Result<Cpu, BoxError> {
        let pid = i32::try_from(self.child.id())?;
        let begun = Instant::now();
        // Until it is waited for, a process that has ended still shows what it used.
        while !Stat::read(pid)?.ended() {
            if begun.elapsed() > DRAIN {
                return Err("it did not stop".into());
            }
            pause(Duration::from_micros(500));
        }
        Ok(Cpu::of(pid)? - before)
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) -> Result<(), BoxError> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        Ok(kill(pid, Signal::SIGTERM)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.external {
            // Its workers end when it does so in order; killed, it would leave them behind.
            let _ = self.terminate();
            let begun = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
                pause(Duration::from_millis(5));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    /// By the clock of the process, which is exact and includes threads that have ended.
    pub(crate) total: Duration,
    /// Sampled by ticks: coarse.
    user: u64,
    system: u64,
}

impl Cpu {
    fn of(pid: i32) -> Result<Self, BoxError> {
        let stat = Stat::read(pid)?;
        let ticks = Duration::from_millis(10 * (stat.user + stat.system));
        // It works until the process is waited for. Without it there are the ticks.
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).and_then(ClockId::now);
        Ok(Self {
            total: clock.map_or(ticks, Duration::from),
            user: stat.user,
            system: stat.system,
        })
    }

    /// Share of the time that was not the kernel's.
    pub(crate) fn user_share(self) -> f64 {
        match self.user + self.system {
            0 => 0.0,
            all => self.user as f64 / all as f64,
        }
    }
}

impl std::ops::Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

/// Fields of `/proc/PID/stat`, `proc_pid_stat(5)`.
#[derive(Debug, PartialEq)]
struct Stat {
    state: char,
    parent: i32,
    user: u64,
    system: u64,
}

impl Stat {
    fn read(pid: i32) -> Result<Self, BoxError> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&stat).ok_or_else(|| "a strange /proc".into())
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name of the program is in brackets and may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            user: fields.get(11)?.parse().ok()?,
            system: fields.get(12)?.parse().ok()?,
        })
    }

    const fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// A port for programs that cannot choose one.
fn free_port() -> Result<u16, BoxError> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Blocks the main thread; the load runs in other threads.
#[expect(clippy::disallowed_methods, reason = "no worker of a runtime")]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

/// How long a server may take to start and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_whatever_the_program_is_called() {
        let line = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 0 0 0 300 200 0 0 20 0 3 0 1 2 3";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.parent), ('S', 7));
        assert_eq!((stat.user, stat.system), (300, 200));
        assert!(!stat.ended());
        assert_eq!(Stat::parse("42 (a"), None);
    }

    #[test]
    fn cpu_time_is_counted_for_this_very_process() {
        let before = Cpu::of(std::process::id() as i32).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let used = Cpu::of(std::process::id() as i32).unwrap() - before;
        assert!(used.total > Duration::from_millis(2), "{used:?}");
    }
}
