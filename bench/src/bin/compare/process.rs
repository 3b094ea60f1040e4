//! A program under test: started, watched through /proc, ended.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use seg_bench::Failure;

/// Ticks a second of the times in /proc/PID/stat: fixed in Linux's interface, whatever the kernel's
/// own clock.
const TICKS: f64 = 100.0;
/// How long a program may take to listen.
const START: Duration = Duration::from_secs(20);

/// A child process with its descendants; killed when dropped, and by the system if we die first.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    /// Starts a program on these CPUs (as `taskset -c` takes them; `None`: on all).
    pub(crate) fn start(
        name: &'static str,
        program: &std::ffi::OsStr,
        arguments: &[&std::ffi::OsStr],
        cpus: Option<&str>,
        output: Stdio,
        errors: Stdio,
    ) -> Result<Self, Failure> {
        // A run that is killed leaves nothing behind: the death signal survives exec.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(cpus) = cpus {
            command.args(["taskset", "-c", cpus]);
        }
        let child = command
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{name} does not start: {error}"))?;
        Ok(Self { name, child })
    }

    /// Waits until it accepts connections.
    pub(crate) async fn listening(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let began = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{} ended at once: {status}", self.name).into());
            }
            if began.elapsed() > START {
                return Err(format!("{} does not listen on {address}", self.name).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// CPU time so far, user and system, of it and its descendants.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let mut ticks = 0_u64;
        for pid in self.family() {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // Behind the name, which may hold anything, utime and stime are the 12th and 13th.
            let fields = stat.rsplit(')').next().unwrap_or_default();
            let times = fields.split_ascii_whitespace().skip(11).take(2);
            ticks += times
                .filter_map(|text| text.parse::<u64>().ok())
                .sum::<u64>();
        }
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
    }

    /// Private resident bytes of it and its descendants.
    pub(crate) fn private_bytes(&self) -> Result<u64, Failure> {
        let mut kilobytes = 0;
        for pid in self.family() {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            kilobytes += rollup
                .lines()
                .filter(|line| line.starts_with("Private_"))
                .filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
                .sum::<u64>();
        }
        Ok(kilobytes * 1024)
    }

    /// Open files of it and its descendants.
    pub(crate) fn open_files(&self) -> Result<usize, Failure> {
        let mut files = 0;
        for pid in self.family() {
            files += fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        }
        Ok(files)
    }

    /// Its own id and those of its descendants.
    pub(crate) fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(&pid) = family.get(next) {
            next += 1;
            let path = format!("/proc/{pid}/task/{pid}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            family.extend(
                children
                    .split_ascii_whitespace()
                    .filter_map(|text| text.parse::<u32>().ok()),
            );
        }
        family
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx's workers die with their master only when it is asked to end.
        let asked = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let until = Instant::now() + Duration::from_secs(1);
        while asked.is_ok()
            && Instant::now() < until
            && !matches!(self.child.try_wait(), Ok(Some(_)))
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        // It may have ended already; either way nothing is left to do here.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
