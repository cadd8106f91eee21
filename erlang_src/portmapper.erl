%% @doc The port mapper of this host, as Erlang sees it.
%%
%% The application serves other programs on its port as any EPMD does; these
%% functions look at the same registry from inside its VM, without a socket.
%%
%% ```
%% 1> portmapper:names().
%% [{<<"n2">>,40123},{<<"n1">>,35437}]
%% 2> portmapper:lookup("n1").
%% {ok,#{name => <<"n1">>,port => 35437,creation => 1795438727, ...}}
%% '''
%%
%% Names are taken as strings, binaries or atoms, and returned as UTF-8
%% binaries. Every function fails with `{not_running, portmapper}' while the
%% application is not started.
-module(portmapper).

-export([
    names/0,
    names/1,
    names/2,
    lookup/1,
    lookup/2,
    count/0,
    info/0,
    subscribe/0,
    subscribe/1,
    unsubscribe/1,
    register/2,
    register/3,
    unregister/1,
    drop/1,
    config/0,
    reconfigure/1,
    takeover/0,
    takeover/1,
    stop/0,
    format_error/1
]).
-export_type([
    name/0,
    creation/0,
    peer/0,
    node_info/0,
    holder/0,
    info/0,
    exposure/0,
    event/0,
    options/0,
    config/0,
    config_error/0,
    takeover_error/0
]).

-type name() :: unicode:chardata() | atom().
%% The part of a node's name before the `@': 1 to 255 characters.

-type creation() :: 4..16#ffffffff.
%% Tells two lives of one name apart.

-type peer() :: {inet:ip_address(), inet:port_number()}.

-type node_info() :: #{
    name := binary(),
    port := inet:port_number(),
    type := byte(),
    protocol := byte(),
    highest_version := 0..65535,
    lowest_version := 0..65535,
    extra := binary(),
    creation := creation(),
    since := integer(),
    peer := peer() | vm,
    holder => holder()
}.
%% A registered node: what it said of itself (`type' is 77 for `erl', 72 hidden,
%% 104 C nodes, 110 jinterface; `protocol' 0 for TCP), its creation, since when
%% it is registered in milliseconds of system time, and where its connection
%% comes from; `vm' for names that {@link register/3} registered.

-type holder() :: #{pid => pos_integer(), program => binary(), user => binary()}.
%% The process that holds a name: the one that has the other end of its
%% connection, or the first of them, for a connection may be inherited; this VM
%% for its own names. Keys that the system does not tell are not there: the
%% processes of other users cannot be looked into, unless by root.

-type info() :: #{
    version := binary(),
    addresses := [peer()],
    exposure := exposure(),
    uptime := non_neg_integer(),
    nodes := non_neg_integer(),
    open_connections := non_neg_integer(),
    waiting_connections := non_neg_integer(),
    waiting_notices := non_neg_integer(),
    heirs := non_neg_integer(),
    counters := #{refused := counts(), ended := counts(), atom() => non_neg_integer() | counts()}
}.
%% The version of the library that serves, addresses and port as bound, what remote
%% peers may ask for, milliseconds since the start, registered nodes, open
%% connections (registrations, and those that wait), those that wait, what waits to be
%% logged, nodes that stand by ({@link portmapper_epmd}), and what was counted since the
%% start, or since another version of the library was loaded. `docs/counters.md' says what each counter counts, and how they add up.

-type counts() :: #{Reason :: atom() => non_neg_integer()}.

-type exposure() :: all | lookup | local.
%% What peers on other hosts may ask for: `all' is to look names up and to list
%% them; `lookup' to look up a name that they know; `local' nothing. What would
%% change something is for peers on this host alone, whatever this says.

-type event() ::
    {nodes, [up()], Missed :: non_neg_integer() | unknown}
    | {up, up()}
    | {down, #{
        name := binary(),
        creation := creation(),
        reason := closed | surplus_data | stopped | dropped | unregistered | evicted
    }}
    | stopped.
%% What a subscriber is told, see {@link subscribe/1}.

-type up() :: #{
    name := binary(),
    port := inet:port_number(),
    type := byte(),
    creation := creation(),
    peer := peer() | vm
}.
%% As in {@link node_info()}.

-type options() :: #{
    type => byte(),
    protocol => byte(),
    highest_version => 0..65535,
    lowest_version => 0..65535,
    extra => binary()
}.
%% What else a registration says; by default that of an `erl' node: 77, 0, 6,
%% 5, and no extra data (at most 1,020 bytes).

-type config() :: portmapper_config:config().
%% Every key of the configuration, its meaning and its default:
%% {@link portmapper_config:config()}.

-type config_error() ::
    {bad_config, #{key := term(), value := term(), expected := binary()}}.

-type takeover_error() ::
    portmapper_nif:takeover_error()
    | portmapper_nif:listen_error()
    | config_error()
    | {already_started, portmapper}
    | term().

%% @doc Names and ports of all registered nodes, newest registration first.
-spec names() -> [{Name :: binary(), inet:port_number()}].
names() ->
    names(<<"*">>).

%% @doc The same of those that match a pattern: `*' stands for any characters
%% or none, `?' for one, `[a-z]' for one of these, and `[!a-z]' for any other one. A
%% set may have several ranges and single characters, and `]' if that comes first.
%% Anything else stands for itself, as does a `[' that nothing closes.
%%
%% ```
%% portmapper:names("web*").
%% [{<<"web2">>,40123},{<<"web1">>,35437}]
%% '''
-spec names(Glob :: name()) -> [{Name :: binary(), inet:port_number()}].
names(Glob) ->
    Binary = to_binary(Glob),
    portmapper_server:call(fun(Server) -> portmapper_nif:names(Server, Binary) end).

%% @doc The same of the port mapper of another host, or another port: one of this kind
%% matches the pattern itself, so that no more is sent than matches; any other EPMD is
%% asked for all names. `Where' is a host (its name or address), or a map with `host',
%% `port' and `timeout', see {@link portmapper_remote:target()}.
%%
%% ```
%% portmapper:names("web*", "db.example").
%% {ok,[{<<"web1">>,35437}]}
%% '''
%%
%% Whatever the other side does costs no more than that time, and no more than 16 MB are
%% read: see {@link portmapper_remote:reason()}. Fails with `badarg' if the pattern breaks
%% the rules for names. The application need not be started.
-spec names(Glob :: name(), Where :: portmapper_remote:host() | portmapper_remote:target()) ->
    {ok, [{Name :: binary(), inet:port_number()}]}
    | {error, portmapper_remote:reason() | portmapper_options:bad_option()}.
names(Glob, Where) when is_map(Where) ->
    Binary = to_binary(Glob),
    case portmapper_options:remote(Where) of
        {ok, All} -> portmapper_remote:names(Binary, All);
        {error, _} = Error -> Error
    end;
names(Glob, Host) ->
    names(Glob, #{host => Host}).

%% @equiv lookup(Name, #{holder => true})
-spec lookup(name()) -> {ok, node_info()} | {error, not_found}.
lookup(Name) ->
    Binary = to_binary(Name),
    portmapper_server:call(fun(Server) -> portmapper_nif:lookup_with_holder(Server, Binary) end).

%% @doc The node of this name. To find its holder takes a while, some milliseconds
%% on a busy host: every descriptor of every process may have to be looked at.
%% Without it, the look-up takes less than a microsecond.
-spec lookup(name(), #{holder => boolean()}) ->
    {ok, node_info()} | {error, not_found | portmapper_options:bad_option()}.
lookup(Name, #{holder := false} = Options) when map_size(Options) =:= 1 ->
    Binary = to_binary(Name),
    portmapper_server:call(fun(Server) -> portmapper_nif:lookup(Server, Binary) end);
lookup(Name, Options) ->
    case portmapper_options:lookup(Options) of
        ok -> lookup(Name);
        {error, _} = Error -> Error
    end.

%% @doc How many nodes are registered.
-spec count() -> non_neg_integer().
count() ->
    portmapper_server:call(fun portmapper_nif:count/1).

%% @doc What the port mapper tells of itself.
-spec info() -> info().
info() ->
    portmapper_server:call(fun portmapper_nif:info/1).

%% @equiv subscribe("*")
-spec subscribe() -> {ok, reference()}.
subscribe() -> subscribe(<<"*">>).

%% @doc Has the caller told of the nodes whose names match a pattern, as in {@link
%% names/1}: first of all that are registered, and then of every one that comes or
%% goes, in messages `{portmapper, Reference, Sequence, Event}'.
%%
%% ```
%% {ok, Reference} = portmapper:subscribe("rabbit*"),
%% receive {portmapper, Reference, _, {nodes, Nodes, 0}} -> Nodes end.
%% [#{name => <<"rabbit1">>,port => 25672,type => 77,creation => 1795438727,
%%    peer => {{127,0,0,1},51492}}]
%% '''
%%
%% `{nodes, Nodes, Missed}' are all nodes, oldest first. It is the first message; it
%% comes again, and what was told before holds no more, if the subscriber did not keep
%% up: `Missed' is how many changes, of whatever names, it was not told. `{up, Node}' and
%% `{down, Node}' are the changes. `stopped' is the last message, when the port mapper is
%% stopped, has handed over to another VM, or was ended by KILL.
%%
%% `Sequence' is the number of the change; with `nodes', of the last one before. Changes of
%% all names are counted, from 1 since the server started: nothing is told twice or left
%% out, but for what `Missed' says, whichever process or thread of the port mapper dies
%% meanwhile. When another server has taken the place of one that closed unasked, or another
%% version of the library was loaded, all nodes are sent again, `Missed' is `unknown' (or
%% 0), and numbers begin anew.
%%
%% A subscriber in whose queue `subscriber_queue' messages wait (10,000, see {@link
%% config()}) is told nothing until there are fewer. The last 16,384 changes are kept for
%% it; when there are more, it misses them.
%%
%% One that ends is forgotten. Fails with `badarg' if the pattern breaks the rules for
%% names (1 to 255 characters without NUL).
-spec subscribe(Glob :: name()) -> {ok, reference()}.
subscribe(Glob) ->
    portmapper_events:subscribe(to_binary(Glob)).

%% @doc Ends a subscription of the caller. No message of it comes afterwards, and those
%% that wait are removed.
-spec unsubscribe(reference()) -> ok | {error, not_found}.
unsubscribe(Reference) when is_reference(Reference) ->
    found(portmapper_events:unsubscribe(Reference)).

%% @equiv register(Name, Port, #{})
-spec register(name(), inet:port_number()) -> {ok, creation()} | {error, term()}.
register(Name, Port) ->
    ?MODULE:register(Name, Port, #{}).

%% @doc Registers a name for this VM, without a connection, until {@link
%% unregister/1} or {@link drop/1}, a STOP, or the application's end.
%%
%% ```
%% portmapper:register("gateway", 8080, #{extra => <<"v2">>}).
%% {ok,1795438727}
%% '''
%%
%% Errors: `name_in_use', `too_many_nodes' (see `max_nodes' in {@link config()}),
%% `invalid_name' (empty, or with a NUL), `name_too_long', `extra_too_long', and
%% `{bad_option, Map}' for a key or value that is wrong.
-spec register(name(), inet:port_number(), options()) ->
    {ok, creation()}
    | {error,
        name_in_use
        | too_many_nodes
        | invalid_name
        | name_too_long
        | extra_too_long
        | portmapper_options:bad_option()}.
register(Name, Port, Options) ->
    case portmapper_options:registration(Port, Options) of
        {ok, #{type := Type, protocol := Protocol, extra := Extra} = All} ->
            #{highest_version := Highest, lowest_version := Lowest} = All,
            Binary = to_binary(Name),
            portmapper_server:call(fun(Server) ->
                portmapper_nif:register(
                    Server, Binary, Port, Type, Protocol, Highest, Lowest, Extra
                )
            end);
        {error, _} = Error ->
            Error
    end.

%% @doc Takes back a name that {@link register/3} registered. Names of other
%% nodes stay: see {@link drop/1}.
-spec unregister(name()) -> ok | {error, not_found}.
unregister(Name) ->
    Binary = to_binary(Name),
    found(portmapper_server:call(fun(Server) -> portmapper_nif:unregister(Server, Binary) end)).

%% @doc Forces a name out and closes its connection, as a STOP request does but
%% whatever `relaxed_command_check' says. A node of OTP registers again after
%% two seconds.
-spec drop(name()) -> ok | {error, not_found}.
drop(Name) ->
    Binary = to_binary(Name),
    found(portmapper_server:call(fun(Server) -> portmapper_nif:drop_name(Server, Binary) end)).

found(true) -> ok;
found(false) -> {error, not_found}.

%% @doc The configuration in force, with every key.
-spec config() -> config().
config() ->
    portmapper_server:call(fun portmapper_config:current/1).

%% @doc Changes the configuration of the running port mapper; no node loses its
%% registration. New addresses are bound before old ones close. A time-out
%% holds for what begins to wait from now on. `raise_file_limit',
%% `remembered_names', `process_name', `trim_memory', `systemd', `stored_descriptors',
%% `state_file', `takeover_socket' and `takeover' take effect at the start only.
%%
%% ```
%% portmapper:reconfigure(#{addresses => ["192.0.2.1"], packet_timeout => 10}).
%% ok
%% '''
%%
%% After an error, which {@link format_error/1} makes readable, nothing has
%% changed. The change is not kept beyond the application's end: for that set
%% its environment.
-spec reconfigure(config()) ->
    ok
    | {error,
        config_error()
        | portmapper_nif:listen_error()
        | {needs_restart, #{key := atom()}}
        | closed}.
reconfigure(Changes) when is_map(Changes) ->
    portmapper_server:reconfigure(Changes).

%% @equiv takeover(#{})
-spec takeover() -> ok | {error, takeover_error()}.
takeover() ->
    takeover(#{}).

%% @doc Starts the application in a VM where it is not started yet, with all that
%% another VM's port mapper has: its sockets, its nodes, and the requests under way. No
%% node and no client notices more than a reply that comes some milliseconds later. The
%% other application ends then, and so does its VM if it was started for that.
%%
%% `Config' is set in the application's environment first; `port' there says which
%% port mapper is meant, and `takeover_socket' where it is met. From there on its
%% configuration is that of this VM, but it listens where the other one did until
%% {@link reconfigure/1} changes port or addresses. Names that the other VM registered
%% itself with {@link register/3} are not passed on.
%%
%% After an error, which {@link format_error/1} makes readable, the other one goes on
%% with everything, and the environment is as before.
-spec takeover(config()) -> ok | {error, takeover_error()}.
takeover(Config) when is_map(Config) ->
    portmapper_takeover:start(Config).

%% @doc Stops the application: every name is gone, every connection closed.
-spec stop() -> ok | {error, term()}.
stop() ->
    application:stop(portmapper).

%% @doc What was wrong, with which value, and what would be right, for the
%% reason of any error of this application.
-spec format_error(Reason :: term()) -> unicode:chardata().
format_error(Reason) ->
    portmapper_text:error(Reason).

to_binary(Name) when is_binary(Name) -> Name;
to_binary(Name) when is_atom(Name) -> atom_to_binary(Name);
to_binary(Name) ->
    case unicode:characters_to_binary(Name) of
        Binary when is_binary(Binary) -> Binary;
        _ -> error(badarg, [Name])
    end.
