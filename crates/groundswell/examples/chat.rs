//! A chat without a server. A path has one writer, so each member publishes what it says in a room on
//! `/chats/ROOM`, and follows the same path at the others; the room is all of it, by time.
//!
//! ```text
//! $ cargo run --release --example chat                       # three members in one process
//! $ cargo run --release --example chat -- ann garden         # a terminal each, on one machine
//! $ cargo run --release --example chat -- ben garden TICKET  # the ticket that ann has printed
//! ```
//!
//! A line is said; `/join TICKET` follows one more member.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use groundswell::{
    Aeon, GiveError, HandlerError, Lake, Node, OnRock, PeerTicket, Program, Publications, Source, Subscriptions,
    Surfed, Updates,
};
use serde::{Deserialize, Serialize};

/// What one member says in one room.
pub(crate) struct Chat;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Said {
    /// In milliseconds since 1970, by the clock of who says it: decided once, when it is said.
    pub(crate) when: u64,
    pub(crate) who: String,
    pub(crate) text: String,
}

#[derive(Debug, thiserror::Error)]
#[error("a name has 1 to {MOST_NAME} bytes and a text 1 to {MOST_TEXT}, without control characters")]
pub(crate) struct Unfit;

const MOST_NAME: usize = 32;
const MOST_TEXT: usize = 2_000;
/// How many lines a room remembers of each member, so that its rock stays small for ever.
const MOST_LINES: usize = 1_000;

impl Lake for Chat {
    const NAME: &'static str = "chat";
    type Rock = VecDeque<Said>;
    type Wave = Said;
    type Error = Unfit;

    fn wash(room: &mut VecDeque<Said>, said: &Said) -> Result<(), Unfit> {
        let fits = |text: &str, most| (1..=most).contains(&text.len()) && !text.contains(char::is_control);
        if !fits(&said.who, MOST_NAME) || !fits(&said.text, MOST_TEXT) {
            return Err(Unfit);
        }
        room.push_back(said.clone());
        if room.len() > MOST_LINES {
            room.pop_front();
        }
        Ok(())
    }
}

pub(crate) type Screen = Arc<dyn Fn(String) + Send + Sync>;

struct Member {
    node: Node,
    who: String,
    own: Publications<Chat>,
    others: Subscriptions<Chat>,
    _program: Program,
}

impl Member {
    async fn start(node: Node, who: &str, screen: Screen) -> Result<Self, HandlerError> {
        let agent = node.agent("chat")?;
        let own = agent.publications::<Chat>("/chats/*").await?;
        let others = agent.subscriptions::<Chat>("/chats/*").await?;
        let _program = agent.program(Listening { screen, shown: HashMap::new() }).handles(&others).start();
        Ok(Self { node, who: who.to_owned(), own, others, _program })
    }

    async fn say(&self, room: &str, text: &str) -> Result<(), GiveError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let (when, who, text) = (u64::try_from(now).unwrap_or(u64::MAX), self.who.clone(), text.to_owned());
        self.own.give(&format!("/chats/{room}"), Said { when, who, text }).await.map(drop)
    }

    /// Hears what another member says in a room, from now on and after every restart.
    async fn join(&self, other: &PeerTicket, room: &str) -> Result<Updates<Chat>, HandlerError> {
        let peer = self.node.add_peer(other).await?;
        Ok(self.others.surf(Source::new(peer, "chat", &format!("/chats/{room}"))?).await?)
    }

    /// The room as this member has it: its own lines and those that it has heard, by time.
    async fn room(&self, room: &str) -> Vec<Said> {
        let path = format!("/chats/{room}");
        let mut lines =
            self.own.with_rock(&path, |own, _| Vec::from_iter(own.iter().cloned())).await.unwrap_or_default();
        for (source, (_, rock)) in self.others.rocks().await {
            if source.path.as_str() == path {
                lines.extend(rock);
            }
        }
        lines.sort();
        lines
    }
}

/// What a member does with news of the others: it shows the lines that it has not shown yet. Whether they
/// came one by one, or together in a rock, or nothing but the freshness has changed, is all one.
struct Listening {
    screen: Screen,
    shown: HashMap<Source, Aeon>,
}

impl OnRock<Chat> for Listening {
    async fn on_rock(&mut self, surfed: Surfed<Chat>) -> Result<(), HandlerError> {
        // What `/*` stands for is data: the room, and rooms within it.
        let room = surfed.segments()[1..].join("/");
        let shown = self.shown.insert(surfed.source.clone(), surfed.aeon()).unwrap_or_default();
        let new = usize::try_from(surfed.aeon().0.saturating_sub(shown.0))?.min(surfed.rock().len());
        for said in surfed.rock().range(surfed.rock().len() - new..) {
            (self.screen)(format!("[{room}] {}: {}", said.who, said.text));
        }
        Ok(())
    }
}

/// Three members in one process, in two rooms; what the first two have of them at the end.
pub(crate) async fn demo(screen: Screen) -> Result<Vec<Vec<Said>>, HandlerError> {
    let dirs = [tempfile::TempDir::new()?, tempfile::TempDir::new()?, tempfile::TempDir::new()?];
    let mut members = Vec::new();
    for (who, dir) in ["ann", "ben", "cem"].into_iter().zip(&dirs) {
        let (to, name) = (screen.clone(), who.to_owned());
        let own_screen: Screen = Arc::new(move |line| to(format!("{name} sees {line}")));
        let node = Node::builder().data_dir(dir.path()).offline().bind("127.0.0.1:0".parse()?).spawn().await?;
        members.push(Member::start(node, who, own_screen).await?);
    }
    let [ann, ben, cem] = &members[..] else { return Err("three were started".into()) };
    let mut heard = Vec::new();
    for room in ["garden", "garden/shed"] {
        heard.push((ann.join(&ben.node.ticket(), room).await?, 1));
        heard.push((ben.join(&ann.node.ticket(), room).await?, 1));
        ann.say(room, &format!("is anyone in the {room}?")).await?;
        ben.say(room, "I am").await?;
    }
    // Cem is in one room only, and speaks before the others have joined it.
    cem.say("garden", "so am I").await?;
    heard.push((ann.join(&cem.node.ticket(), "garden").await?, 1));
    heard.push((ben.join(&cem.node.ticket(), "garden").await?, 1));
    if let Err(refused) = ann.say("garden", "").await {
        screen(format!("ann can't say nothing: {refused}"));
    }
    for (updates, lines) in &mut heard {
        while updates.cursor().is_none_or(|at| at.aeon.0 < *lines) {
            updates.next().await;
        }
    }
    let mut rooms = Vec::new();
    for member in [ann, ben] {
        rooms.push(member.room("garden").await);
        rooms.push(member.room("garden/shed").await);
    }
    for member in &members {
        member.node.shutdown().await?;
    }
    Ok(rooms)
}

#[tokio::main]
async fn main() -> Result<(), HandlerError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let screen: Screen = Arc::new(|line| println!("{line}"));
    let [who, room, tickets @ ..] = &arguments[..] else {
        for said in demo(screen).await?.concat() {
            println!("{} {}: {}", said.when, said.who, said.text);
        }
        return Ok(());
    };
    let dir = format!("chat-{who}");
    let node = Node::builder().data_dir(dir).offline().bind("127.0.0.1:0".parse()?).spawn().await?;
    println!("my ticket: {}", node.ticket());
    let member = Member::start(node, who, screen).await?;
    for ticket in tickets {
        member.join(&ticket.parse()?, room).await?;
    }
    for line in std::io::stdin().lines() {
        let line = line?;
        let done = match line.strip_prefix("/join ") {
            Some(ticket) => member.join(&ticket.trim().parse()?, room).await.map(drop),
            None => member.say(room, &line).await.map_err(HandlerError::from),
        };
        if let Err(error) = done {
            println!("no: {error}");
        }
    }
    Ok(member.node.shutdown().await?)
}
