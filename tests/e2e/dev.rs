//! A newcomer's first minute: the commands that `seg dev` prints, pasted as they are.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use seg_tests::eventually;
use seg_tests::gateway::free_address;
use seg_tests::program::program;

/// `seg dev`, killed when the test fails.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        // It has ended already, unless the test fails.
        let _already_ended = self.0.kill();
        let _already_collected = self.0.wait();
    }
}

#[tokio::test]
async fn its_commands_work_as_printed_from_any_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let printed = folder.path().join("printed");
    let out = File::create(&printed).expect("a file");
    let mut dev = Dev(Command::new(program("seg"))
        .args(["dev", "--listen", &free_address().to_string()])
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("a second handle"))
        .stderr(out)
        .spawn()
        .expect("seg starts"));
    let commands = eventually("the commands", || {
        let text = fs::read_to_string(&printed).unwrap_or_default();
        // The last line of all is empty: then everything has been printed.
        let whole = text.contains("To try") && text.ends_with("\n\n");
        std::future::ready(whole.then(|| commands(&text)))
    })
    .await;
    assert!(commands.len() > 5, "{commands:?}");

    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut refused = 0;
    for command in commands
        .iter()
        .filter(|command| !command.contains("Cmd=Ping"))
    {
        let output = run(command, elsewhere.path());
        assert!(matches!(output.0, Some(0 | 1)), "{command}: {output:?}");
        refused += usize::from(output.1.contains("<Status>129</Status>"));
    }
    assert!(refused >= 1, "nothing of what was printed shows a refusal");

    let told = Command::new("kill")
        .arg("-TERM")
        .arg(dev.0.id().to_string())
        .status();
    assert!(told.expect("kill runs").success());
    let ended = eventually("its end", || {
        std::future::ready(dev.0.try_wait().expect("the child can be asked"))
    });
    assert_eq!(ended.await.code(), Some(0));
    let data = data_folder(&fs::read_to_string(&printed).unwrap_or_default());
    assert!(!Path::new(&data).exists(), "{data} is left behind");
}

/// The lines that are commands: `curl`, or the full path of the running program.
fn commands(text: &str) -> Vec<String> {
    let seg = program("seg").display().to_string();
    text.lines()
        .filter(|line| line.starts_with("curl ") || line.starts_with(&seg))
        .map(str::to_owned)
        .collect()
}

/// Exit code, and everything that was said.
fn run(command: &str, folder: &Path) -> (Option<i32>, String) {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("sh runs");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// The folder that it says to have its data in.
fn data_folder(text: &str) -> String {
    let line = text.lines().find(|line| line.contains("seg-dev-"));
    let word = line.and_then(|line| {
        line.split([' ', ','])
            .find(|word| word.contains("seg-dev-"))
    });
    word.expect("it says where its data is").to_owned()
}
