//! Whom the interface is for: a node alone, or the machine or the manager on it; and their spaces under one face.

use bytes::Bytes;
use groundswell::{
    Cursor, KvEntry, KvError, KvFilter, KvKey, KvSpace, KvSubscription, LinkStatus, Machine, MachineState, Manager,
    Node, PeerId, WriteId,
};
use tokio::sync::watch;

use crate::{
    problem::{Kind, Problem},
    views::MachineView,
};

/// What the interface shows: a node, or the machine or the manager that runs on it.
#[derive(Clone)]
#[non_exhaustive]
pub enum Subject {
    /// A node without a key-value store.
    Node(Node),
    /// A machine and its node.
    Machine(Machine),
    /// A manager and its node.
    Manager(Manager),
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({})", self.role(), self.node().id())
    }
}

impl From<Node> for Subject {
    fn from(node: Node) -> Self {
        Self::Node(node)
    }
}

impl From<Machine> for Subject {
    fn from(machine: Machine) -> Self {
        Self::Machine(machine)
    }
}

impl From<Manager> for Subject {
    fn from(manager: Manager) -> Self {
        Self::Manager(manager)
    }
}

/// How a machine's own node names the machine.
const OWN: &str = "self";

const LISTED: &str = "GET /api/v1/machines lists those that there are";

impl Subject {
    pub(crate) fn node(&self) -> &Node {
        match self {
            Self::Node(node) => node,
            Self::Machine(machine) => machine.node(),
            Self::Manager(manager) => manager.node(),
        }
    }

    pub(crate) fn role(&self) -> &'static str {
        match self {
            Self::Node(_) => "peer",
            Self::Machine(_) => "machine",
            Self::Manager(_) => "manager",
        }
    }

    /// Whether it is shut down, or about to be.
    pub(crate) fn is_shutdown(&self) -> bool {
        match self {
            Self::Node(node) => node.is_shutdown(),
            Self::Machine(machine) => machine.is_shutdown(),
            Self::Manager(manager) => manager.is_shutdown(),
        }
    }

    /// Waits until it is.
    pub(crate) async fn until_shutdown(&self) {
        match self {
            Self::Node(node) => node.until_shutdown().await,
            Self::Machine(machine) => machine.until_shutdown().await,
            Self::Manager(manager) => manager.until_shutdown().await,
        }
    }

    pub(crate) fn manager(&self) -> Result<&Manager, Problem> {
        match self {
            Self::Manager(manager) => Ok(manager),
            other => Err(Problem::new(Kind::WrongRole, format!("this node is a {}: ask a manager", other.role()))),
        }
    }

    /// The machine that this node is.
    pub(crate) fn own_machine(&self) -> Result<&Machine, Problem> {
        match self {
            Self::Machine(machine) => Ok(machine),
            other => Err(Problem::new(Kind::WrongRole, format!("this node is a {}: ask a machine", other.role()))),
        }
    }

    /// The machines that there are here.
    pub(crate) fn machine_ids(&self) -> Vec<PeerId> {
        match self {
            Self::Node(_) => Vec::new(),
            Self::Machine(machine) => vec![machine.id()],
            Self::Manager(manager) => manager.list_machine_ids(),
        }
    }

    /// The machine of this name: an id, or `self`.
    pub(crate) fn machine(&self, name: &str) -> Result<PeerId, Problem> {
        let unknown = |detail: String| Problem::new(Kind::UnknownMachine, detail);
        match self {
            Self::Node(_) => {
                Err(Problem::new(Kind::WrongRole, "this node is neither a machine nor a manager: it has no entries"))
            }
            Self::Machine(machine) if name == OWN || name == machine.id().to_string() => Ok(machine.id()),
            Self::Machine(_) => Err(unknown(format!("{name} is not this machine: say `{OWN}`"))),
            Self::Manager(manager) => {
                if name == OWN {
                    return Err(unknown(format!(
                        "`{OWN}` is for a machine's own node: a manager names it by its id; {LISTED}"
                    )));
                }
                let id =
                    name.parse().map_err(|_| unknown(format!("{name} is not the whole id of a machine: {LISTED}")))?;
                match manager.list_machine_ids().contains(&id) {
                    true => Ok(id),
                    false => Err(unknown(format!("{}; {LISTED}", KvError::UnknownMachine(id)))),
                }
            }
        }
    }

    /// What is known of the other side of a machine's document, as it changes.
    pub(crate) fn status_changes(&self, machine: PeerId) -> Result<watch::Receiver<LinkStatus>, Problem> {
        match self {
            Self::Node(_) => Err(KvError::UnknownMachine(machine).into()),
            Self::Machine(own) => Ok(own.status_changes()),
            Self::Manager(manager) => Ok(manager.machine_status_changes(machine)?),
        }
    }

    pub(crate) fn view(&self, id: PeerId) -> Result<MachineView, Problem> {
        match self {
            Self::Node(_) => Err(KvError::UnknownMachine(id).into()),
            Self::Machine(own) => {
                let manager = match own.get_machine_state() {
                    MachineState::Unclaimed => None,
                    MachineState::Claimed { manager } => Some(manager),
                };
                Ok(MachineView::new(id, manager, true, own.manager_status(), own.kv_usage(), own.spaces()))
            }
            Self::Manager(manager) => {
                let (status, usage) = (manager.machine_status(id)?, manager.kv_usage(id)?);
                Ok(MachineView::new(id, Some(manager.id()), false, status, usage, manager.spaces(id)?))
            }
        }
    }

    pub(crate) fn spaces(&self, machine: PeerId) -> Result<Vec<String>, Problem> {
        match self {
            Self::Node(_) => Err(KvError::UnknownMachine(machine).into()),
            Self::Machine(own) => Ok(own.spaces()),
            Self::Manager(manager) => Ok(manager.spaces(machine)?),
        }
    }

    pub(crate) async fn release(&self, machine: PeerId, wipe: bool) -> Result<(), Problem> {
        match self {
            Self::Node(_) => Err(KvError::UnknownMachine(machine).into()),
            Self::Machine(own) if wipe => Ok(own.release_and_wipe().await?),
            Self::Machine(own) => own.release().await.map_err(|error| match error {
                KvError::NotClaimed => Problem::new(
                    Kind::NotClaimed,
                    "this machine has no manager: there is nothing to release; `wipe=true` deletes its keys all the same",
                ),
                error => error.into(),
            }),
            Self::Manager(_) if wipe => Err(Problem::new(
                Kind::WrongRole,
                "`wipe` is for a machine: ask it there; a manager always deletes what it had of the machine",
            )),
            Self::Manager(manager) => Ok(manager.release(machine).await?),
        }
    }

    /// A space of a machine; the default one, where the name is empty.
    pub(crate) fn space(&self, machine: PeerId, name: &str) -> Result<Space, Problem> {
        Ok(match self {
            Self::Node(_) => return Err(KvError::UnknownMachine(machine).into()),
            Self::Machine(own) if name.is_empty() => Space::OfMachine(own.clone()),
            Self::Machine(own) => Space::Named(own.space(name)?),
            Self::Manager(manager) if name.is_empty() => Space::OfManager(manager.clone(), machine),
            Self::Manager(manager) => Space::Named(manager.space(machine, name)?),
        })
    }
}

/// A space of a machine, by either side.
#[derive(Debug, Clone)]
pub(crate) enum Space {
    Named(KvSpace),
    OfMachine(Machine),
    OfManager(Manager, PeerId),
}

impl Space {
    pub(crate) async fn get(&self, key: &KvKey) -> Result<Option<KvEntry>, KvError> {
        match self {
            Self::Named(space) => space.get(key).await,
            Self::OfMachine(machine) => machine.get_kv_value(key).await,
            Self::OfManager(manager, id) => manager.get_kv_value(*id, key).await,
        }
    }

    /// The space itself, as it is at this moment.
    fn now(&self) -> Result<KvSpace, KvError> {
        match self {
            Self::Named(space) => Ok(space.clone()),
            Self::OfMachine(machine) => machine.default_space(),
            Self::OfManager(manager, id) => manager.default_space(*id),
        }
    }

    pub(crate) async fn set(&self, key: &KvKey, value: Bytes, id: Option<WriteId>) -> Result<KvEntry, KvError> {
        let space = self.now()?;
        match id {
            None => space.set(key, value).await,
            Some(id) => space.set_once(key, id, value).await,
        }
    }

    pub(crate) async fn delete(&self, key: &KvKey, id: Option<WriteId>) -> Result<bool, KvError> {
        let space = self.now()?;
        match id {
            None => space.delete(key).await,
            Some(id) => space.delete_once(key, id).await,
        }
    }

    /// Waits until everything that was written here is at the other side.
    pub(crate) async fn until_delivered(&self) -> Result<(), KvError> {
        match self {
            Self::Named(space) => space.until_delivered().await,
            Self::OfMachine(machine) => machine.until_kv_delivered().await,
            Self::OfManager(manager, id) => manager.until_kv_delivered(*id).await,
        }
    }

    pub(crate) async fn entries(&self, filter: KvFilter) -> Result<Vec<KvEntry>, KvError> {
        match self {
            Self::Named(space) => space.entries(filter).await,
            Self::OfMachine(machine) => machine.get_kv_entries_matching(filter).await,
            Self::OfManager(manager, id) => manager.get_kv_entries_matching(*id, filter).await,
        }
    }

    pub(crate) async fn subscribe(&self, filter: KvFilter, from: Option<Cursor>) -> Result<KvSubscription, KvError> {
        match self {
            Self::Named(space) => space.subscribe_from(filter, from).await,
            Self::OfMachine(machine) => machine.subscribe_kv_entries_from(filter, from).await,
            Self::OfManager(manager, id) => manager.subscribe_kv_entries_from(*id, filter, from).await,
        }
    }
}
