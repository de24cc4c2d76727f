//! The node's part in the key-value store: a machine, a manager, or none.

use groundswell::{KvBudget, KvError, KvSpace, Machine, MachineState, Manager, Node, PeerId, SpaceName};
use groundswell_web::Subject;

use crate::{
    args::Role,
    control::protocol::{Other, Pair, Released, Status},
    error::ToolError,
    peer_name::PeerName,
};

/// What the node is in the key-value store.
pub(crate) enum Store {
    Peer,
    Machine(Machine),
    Manager(Manager),
}

impl Store {
    /// Starts the role that is asked for, or that the data directory has.
    pub(crate) async fn open(
        node: &Node,
        dir: &std::path::Path,
        role: Option<Role>,
        budget: KvBudget,
    ) -> Result<Self, ToolError> {
        let machine = Machine::builder().node(node.clone()).budget(budget);
        let manager = Manager::builder().node(node.clone()).budget(budget);
        let remembered = node.role().map(|role| match role {
            groundswell::Role::Machine => Role::Machine,
            groundswell::Role::Manager => Role::Manager,
        });
        match role.or(remembered) {
            Some(Role::Machine) => Ok(Self::Machine(machine.spawn().await?)),
            Some(Role::Manager) => Ok(Self::Manager(manager.spawn().await?)),
            Some(Role::Peer) if remembered.is_some() => Err(ToolError::KeepsRole { dir: dir.to_owned() }),
            Some(Role::Peer) | None => Ok(Self::Peer),
        }
    }

    /// `machine`, `manager` or `peer`.
    pub(crate) fn role(&self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Machine(_) => "machine",
            Self::Manager(_) => "manager",
        }
    }

    /// What the HTTP interface is of.
    pub(crate) fn subject(&self, node: &Node) -> Subject {
        match self {
            Self::Peer => node.clone().into(),
            Self::Machine(machine) => machine.clone().into(),
            Self::Manager(manager) => manager.clone().into(),
        }
    }

    /// The machine that this node is; `what` is the command that needs one.
    pub(crate) fn machine(&self, what: &'static str) -> Result<&Machine, ToolError> {
        match self {
            Self::Machine(machine) => Ok(machine),
            _ => Err(ToolError::OtherRole { what, needed: "machine", role: self.role() }),
        }
    }

    /// The manager that this node is.
    pub(crate) fn manager(&self, what: &'static str) -> Result<&Manager, ToolError> {
        match self {
            Self::Manager(manager) => Ok(manager),
            _ => Err(ToolError::OtherRole { what, needed: "manager", role: self.role() }),
        }
    }

    /// A space of this machine, or of the machine of this name.
    pub(crate) fn space(&self, machine: Option<&str>, space: Option<&str>) -> Result<KvSpace, ToolError> {
        // It was checked where it was written, and is again here.
        let space = space.map(|name| SpaceName::new(name).map_err(KvError::from)).transpose()?;
        Ok(match (self, machine, &space) {
            (Self::Machine(_), Some(_), _) => return Err(ToolError::OwnMachine),
            (Self::Machine(machine), None, None) => machine.default_space()?,
            (Self::Machine(machine), None, Some(space)) => machine.space(space.as_str())?,
            (Self::Manager(_), None, _) => return Err(ToolError::WhichMachine),
            (Self::Manager(manager), Some(name), None) => manager.default_space(machine_of(manager, name)?)?,
            (Self::Manager(manager), Some(name), Some(space)) => {
                manager.space(machine_of(manager, name)?, space.as_str())?
            }
            (Self::Peer, ..) => {
                return Err(ToolError::OtherRole { what: "`kv`", needed: "machine", role: self.role() });
            }
        })
    }

    /// Ends the pairing; at a manager, with the machine of this name. A machine may forget its entries with it.
    pub(crate) async fn release(&self, machine: Option<&str>, wipe: bool) -> Result<Released, ToolError> {
        let other = match (self, machine) {
            (Self::Machine(_), Some(_)) => return Err(ToolError::OwnMachine),
            (Self::Machine(machine), None) => {
                let other = match machine.get_machine_state() {
                    MachineState::Claimed { manager } => Some(Other::manager(manager)),
                    MachineState::Unclaimed => None,
                };
                match (wipe, &other) {
                    (true, _) => machine.release_and_wipe().await?,
                    (false, Some(_)) => machine.release().await?,
                    (false, None) => return Err(ToolError::NothingToRelease),
                }
                other
            }
            (Self::Manager(_), None) => return Err(ToolError::WhichToRelease),
            (Self::Manager(_), Some(_)) if wipe => return Err(ToolError::WipeAtMachine),
            (Self::Manager(manager), Some(name)) => {
                let machine = machine_of(manager, name)?;
                manager.release(machine).await?;
                Some(Other::machine(machine))
            }
            (Self::Peer, _) => {
                return Err(ToolError::OtherRole { what: "`release`", needed: "machine", role: self.role() });
            }
        };
        Ok(Released { released: other.is_some(), other, wiped: wipe })
    }

    /// How a manager stands with its machines.
    pub(crate) fn machines(manager: &Manager) -> Vec<Pair> {
        let pair = |machine: PeerId| {
            // One that is released meanwhile is none any more.
            let (status, usage) = (manager.machine_status(machine).ok()?, manager.kv_usage(machine).ok()?);
            Some(Pair::new(Some(Other::machine(machine)), &status, usage))
        };
        manager.list_machine_ids().into_iter().filter_map(pair).collect()
    }

    /// What the node is doing, with its part in the key-value store.
    pub(crate) fn status(&self, node: &Node) -> Status {
        let (manager, machines) = match self {
            Self::Peer => (None, None),
            Self::Machine(machine) => {
                let other = match machine.get_machine_state() {
                    MachineState::Unclaimed => None,
                    MachineState::Claimed { manager } => Some(Other::manager(manager)),
                };
                (Some(Pair::new(other, &machine.manager_status(), machine.kv_usage())), None)
            }
            Self::Manager(manager) => (None, Some(Self::machines(manager))),
        };
        let claims = match self {
            Self::Machine(machine) => Some(machine.claims_open().into()),
            Self::Peer | Self::Manager(_) => None,
        };
        Status { node: node.status(), role: self.role(), manager, machines, claims }
    }

    /// The other sides.
    pub(crate) fn others(&self) -> Vec<PeerId> {
        match self {
            Self::Peer => Vec::new(),
            Self::Machine(machine) => match machine.get_machine_state() {
                MachineState::Unclaimed => Vec::new(),
                MachineState::Claimed { manager } => vec![manager],
            },
            Self::Manager(manager) => manager.list_machine_ids(),
        }
    }
}

/// The machine of this name: an id, or the beginning of one.
pub(crate) fn machine_of(manager: &Manager, name: &str) -> Result<PeerId, ToolError> {
    let short = match name.parse()? {
        PeerName::Ticket(ticket) => return Ok(ticket.peer()),
        PeerName::Short(short) => short,
    };
    let mut ids: Vec<PeerId> = manager.list_machine_ids();
    ids.retain(|id| id.to_string().starts_with(&short));
    match ids.as_slice() {
        [id] => Ok(*id),
        [] => Err(ToolError::NoSuchMachine(short)),
        ids => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            Err(ToolError::AmbiguousPeer { short, ids: ids.join(", ") })
        }
    }
}
