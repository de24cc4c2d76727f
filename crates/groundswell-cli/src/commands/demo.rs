//! `demo`: a fleet of vending machines and their manager, over real connections in one process.
//!
//! Each machine is a node of its own. It is claimed with a PIN, reports stock, balance and temperature
//! by the store, publishes its sales as a log and a sum, which the manager's node surfs, and follows the
//! prices that the manager sets. In the middle one machine is switched off and on again. At the end
//! what both sides have is compared.

mod book;
mod latency;
mod ledger;
mod machine;
mod manager;
mod screen;
mod summary;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until, timeout},
};

use crate::{
    args::Demo,
    error::ToolError,
    output::{self, Output},
    stop::Stop,
};
use book::Book;
use ledger::Ledger;
use machine::{GOODS, Plug, Vendor};
use manager::Office;
use screen::{Screen, money};
use summary::{Fared, Summary};

/// Every node is bound to a free port of this.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The machine that is switched off, counted from 0; the only one, if there is no other.
const SWITCHED_OFF: usize = 1;

/// How long the demo runs where no one can end it by Ctrl-C, unless `--for` says otherwise.
const UNATTENDED: Duration = Duration::from_secs(30);

/// When the machine is switched off, at the latest, and for how long it stays so.
const OFF_AFTER: Duration = Duration::from_secs(5);
const OFF_FOR: Duration = Duration::from_millis(1_500);

/// How often the manager sets a price.
const BETWEEN_PRICES: Duration = Duration::from_millis(700);

/// How long the manager may take to come up to date when all has been sold.
const SETTLE: Duration = Duration::from_secs(10);

/// What was given and written, and what the other side saw of it.
struct Books {
    waves: Ledger,
    store: Book,
}

/// Runs the demo to its end, and says how it went.
pub(super) async fn run(demo: Demo, output: &mut Output) -> Result<(), ToolError> {
    // First, so that nothing which is written waits for ever, whenever the signal comes.
    output.until(Stop::new()?);
    let mut stop = Stop::new()?;
    let terminal = output::is_terminal();
    let length = demo.seconds.map(Duration::from_secs).or((!terminal).then_some(UNATTENDED));
    let count = usize::try_from(demo.machines).unwrap_or(1);
    let mut screen = Screen::new(output, terminal);
    screen.note(&format!("a manager starts, and {count} machines that it claims; nothing was set up before")).await?;

    let books = Arc::new(Books { waves: Ledger::new(count), store: Book::new(count) });
    let plugs: Vec<watch::Sender<Plug>> = (0..count).map(|_| watch::Sender::new(Plug::In)).collect();
    // Held here, so that nothing is left behind however the demo ends.
    let dir = temp_dir()?;
    let mut office = Office::start(&dir.path().join("manager"), books.clone()).await?;
    screen.dashboard(office.web(), demo.no_browser).await?;
    let mut vendors = JoinSet::new();
    for (number, plug) in plugs.iter().enumerate() {
        let vendor = Vendor::start(number, dir.path().join(format!("machine-{number}")), books.clone()).await?;
        office.claim(number, vendor.machine()).await?;
        vendors.spawn(vendor.run(plug.subscribe()));
    }
    screen.note(&format!("{} machines are claimed, each with the same PIN on both sides", office.pairings())).await?;
    office.set_prices().await?;
    let begun = Instant::now();
    let told = tell(&mut screen, &mut stop, &plugs, &mut vendors, &office, &books, length).await;

    for plug in &plugs {
        plug.send_replace(Plug::Done);
    }
    let mut finished = Vec::new();
    while let Some(joined) = vendors.join_next().await {
        finished.push(joined.map_err(|error| ToolError::Demo(error.to_string()))??);
    }
    let lasted = begun.elapsed();
    let outcome = match told {
        Ok(restarts) => sum_up(&mut screen, &office, &finished, &books, lasted, restarts).await,
        Err(error) => Err(error),
    };
    // However it went, the nodes end as they should.
    shut_down(office, finished).await;
    outcome
}

/// Compares both sides, and says what came of it.
async fn sum_up(
    screen: &mut Screen<'_>,
    office: &Office,
    vendors: &[Vendor],
    books: &Books,
    lasted: Duration,
    restarts: u64,
) -> Result<(), ToolError> {
    // What does not settle in time is reported as what it is: a difference.
    let _ = timeout(SETTLE, async { tokio::join!(books.waves.settled(), books.store.settled()) }).await;
    let differences = office.differences(vendors).await?;
    let fared = Fared { machines: vendors.len(), pairings: office.pairings(), lasted, restarts, differences };
    let summary = Summary::new(books, fared);
    screen.summary(&summary).await?;
    if summary.is_good() { Ok(()) } else { Err(ToolError::DemoFailed(summary.problems())) }
}

/// Sets prices and shows what happens until it is to end. Returns how many restarts there were.
async fn tell(
    screen: &mut Screen<'_>,
    stop: &mut Stop,
    plugs: &[watch::Sender<Plug>],
    vendors: &mut JoinSet<Result<Vendor, ToolError>>,
    office: &Office,
    books: &Books,
    length: Option<Duration>,
) -> Result<u64, ToolError> {
    let begun = Instant::now();
    let share = |share: f64| length.map(|length| length.mul_f64(share));
    let off_at = begun + share(0.3).map_or(OFF_AFTER, |at| at.min(OFF_AFTER));
    let on_at = off_at + share(0.3).map_or(OFF_FOR, |at| at.min(OFF_FOR));
    let end = length.map(|length| begun + length);
    let mut redraw = interval(screen.pace());
    redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut next_price = interval_at(begun + BETWEEN_PRICES, BETWEEN_PRICES);
    next_price.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut prices = GOODS.map(|(_, cents)| cents);
    let (mut off, mut restarts, mut changes) = (false, 0, 0);
    let chosen = SWITCHED_OFF.min(plugs.len().saturating_sub(1));
    let plug = &plugs[chosen];
    loop {
        tokio::select! {
            () = stop.asked() => return Ok(restarts),
            () = until(end) => return Ok(restarts),
            () = sleep_until(off_at), if !off && restarts == 0 => {
                off = true;
                plug.send_replace(Plug::Out);
                screen.note(&format!("machine {} is switched off", chosen + 1)).await?;
            }
            () = sleep_until(on_at), if off => {
                off = false;
                restarts += 1;
                plug.send_replace(Plug::In);
                screen.note(&format!("machine {} is switched on again", chosen + 1)).await?;
            }
            _ = next_price.tick() => {
                let goods = changes % GOODS.len();
                // Up and down again by ten cents, so that prices stay near where they began.
                let up = (changes / GOODS.len()).is_multiple_of(2);
                changes += 1;
                prices[goods] += if up { 10 } else { -10 };
                office.set_price(goods, prices[goods]).await?;
                screen.note(&format!("the manager sets {} to {}", GOODS[goods].0, money(prices[goods]))).await?;
            }
            // Machines go on until they are told that it is enough.
            Some(ended) = vendors.join_next() => {
                let ended = ended.map_err(|error| ToolError::Demo(error.to_string()))?;
                ended?;
                return Err(ToolError::Demo("a machine ended before its time".to_owned()));
            }
            _ = redraw.tick() => screen.draw(&office.view().await, &prices, books).await?,
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

async fn shut_down(office: Office, vendors: Vec<Vendor>) {
    let mut ending = JoinSet::new();
    for node in vendors.into_iter().map(Vendor::into_node) {
        ending.spawn(async move {
            // What is temporary is not worth a complaint.
            let _ = node.shutdown().await;
        });
    }
    office.end().await;
    ending.join_all().await;
}

fn temp_dir() -> Result<TempDir, ToolError> {
    tempfile::Builder::new().prefix("groundswell-demo-").tempdir().map_err(|source| {
        let path = std::env::temp_dir();
        ToolError::TempDir { path, source }
    })
}
