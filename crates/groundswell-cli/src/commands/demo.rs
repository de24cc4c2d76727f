//! `demo`: three machines publish, one node follows them all, over real connections in one process.
//!
//! The machines sell things; each sale is a wave on three paths of three lakes. In the middle
//! one machine is switched off and on again. At the end the states of both sides are compared.

mod follower;
mod latency;
mod ledger;
mod machine;
mod screen;
mod summary;

use std::{
    io::IsTerminal,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::{args::Demo, error::ToolError, output::Output, stop::Stop};
use follower::Follower;
use ledger::Ledger;
use machine::{Machine, Plug};
use screen::Screen;
use summary::Summary;

/// Every node is bound to a free port of this.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How many machines publish.
const MACHINES: usize = 3;

/// The machine that is switched off, counted from 0.
const SWITCHED_OFF: usize = 1;

/// How long the demo runs where no one can end it by Ctrl-C, unless `--for` says otherwise.
const UNATTENDED: Duration = Duration::from_secs(30);

/// When the machine is switched off, at the latest, and for how long it stays so.
const OFF_AFTER: Duration = Duration::from_secs(5);
const OFF_FOR: Duration = Duration::from_millis(1_500);

/// How long the follower may take to come up to date when all has been sold.
const SETTLE: Duration = Duration::from_secs(10);

/// Runs the demo to its end, and says how it went.
pub(super) async fn run(demo: Demo, output: &mut Output) -> Result<(), ToolError> {
    let mut stop = Stop::new()?;
    let terminal = std::io::stdout().is_terminal();
    let length = demo.seconds.map(Duration::from_secs).or((!terminal).then_some(UNATTENDED));
    let mut screen = Screen::new(output, terminal);
    screen.note("three machines and a follower start, with nothing set up before").await?;

    let ledger = Arc::new(Ledger::new(MACHINES));
    let plugs: Vec<watch::Sender<Plug>> = (0..MACHINES).map(|_| watch::Sender::new(Plug::In)).collect();
    // Held here, so that nothing is left behind however the demo ends.
    let dir = temp_dir()?;
    let mut follower = Follower::start(&dir.path().join("follower")).await?;
    let mut machines = JoinSet::new();
    for (number, plug) in plugs.iter().enumerate() {
        let machine = Machine::start(number, dir.path().join(format!("machine-{number}")), ledger.clone()).await?;
        follower.follow(number, machine.ticket(), &ledger).await?;
        machines.spawn(machine.run(plug.subscribe()));
    }
    let begun = Instant::now();
    let told = tell(&mut screen, &mut stop, &plugs, &mut machines, &follower, &ledger, length).await;

    for plug in &plugs {
        plug.send_replace(Plug::Done);
    }
    let mut finished = Vec::new();
    while let Some(joined) = machines.join_next().await {
        finished.push(joined.map_err(|error| ToolError::Demo(error.to_string()))??);
    }
    let lasted = begun.elapsed();
    let outcome = match told {
        Ok(restarts) => sum_up(&mut screen, &follower, &finished, &ledger, lasted, restarts).await,
        Err(error) => Err(error),
    };
    // However it went, the nodes end as they should.
    shut_down(follower, finished).await;
    outcome
}

/// Compares both sides, and says what came of it.
async fn sum_up(
    screen: &mut Screen<'_>,
    follower: &Follower,
    machines: &[Machine],
    ledger: &Ledger,
    lasted: Duration,
    restarts: u64,
) -> Result<(), ToolError> {
    // What does not settle in time is reported as what it is: a difference.
    let _ = timeout(SETTLE, ledger.settled()).await;
    let differences = follower.differences(machines).await?;
    let summary = Summary::new(ledger, lasted, restarts, &differences);
    screen.summary(&summary).await?;
    if summary.is_good() { Ok(()) } else { Err(ToolError::DemoFailed(summary.problems())) }
}

/// Shows what happens until it is to end. Returns how many restarts there were.
async fn tell(
    screen: &mut Screen<'_>,
    stop: &mut Stop,
    plugs: &[watch::Sender<Plug>],
    machines: &mut JoinSet<Result<Machine, ToolError>>,
    follower: &Follower,
    ledger: &Ledger,
    length: Option<Duration>,
) -> Result<u64, ToolError> {
    let begun = Instant::now();
    let share = |share: f64| length.map(|length| length.mul_f64(share));
    let off_at = begun + share(0.3).map_or(OFF_AFTER, |at| at.min(OFF_AFTER));
    let on_at = off_at + share(0.3).map_or(OFF_FOR, |at| at.min(OFF_FOR));
    let end = length.map(|length| begun + length);
    let mut redraw = interval(screen.pace());
    redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut off, mut restarts) = (false, 0);
    let plug = &plugs[SWITCHED_OFF];
    loop {
        tokio::select! {
            () = stop.asked() => return Ok(restarts),
            () = until(end) => return Ok(restarts),
            () = sleep_until(off_at), if !off && restarts == 0 => {
                off = true;
                plug.send_replace(Plug::Out);
                screen.note(&format!("machine {} is switched off", SWITCHED_OFF + 1)).await?;
            }
            () = sleep_until(on_at), if off => {
                off = false;
                restarts += 1;
                plug.send_replace(Plug::In);
                screen.note(&format!("machine {} is switched on again", SWITCHED_OFF + 1)).await?;
            }
            // Machines go on until they are told that it is enough.
            Some(ended) = machines.join_next() => {
                let ended = ended.map_err(|error| ToolError::Demo(error.to_string()))?;
                ended?;
                return Err(ToolError::Demo("a machine ended before its time".to_owned()));
            }
            _ = redraw.tick() => screen.draw(&follower.view().await, ledger).await?,
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

async fn shut_down(follower: Follower, machines: Vec<Machine>) {
    let mut ending = JoinSet::new();
    for node in machines.into_iter().map(Machine::into_node) {
        ending.spawn(async move {
            // What is temporary is not worth a complaint.
            let _ = node.shutdown().await;
        });
    }
    follower.end().await;
    ending.join_all().await;
}

fn temp_dir() -> Result<TempDir, ToolError> {
    tempfile::Builder::new().prefix("groundswell-demo-").tempdir().map_err(|source| {
        let path = std::env::temp_dir();
        ToolError::TempDir { path, source }
    })
}
