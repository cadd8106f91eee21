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
    lookup/1,
    lookup/2,
    count/0,
    info/0,
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
    counters := #{refused := #{atom() => non_neg_integer()}, atom() => term()}
}.
%% The version of the library that serves, addresses and port as bound, what remote
%% peers may ask for, milliseconds since the start, registered nodes, open
%% connections (registrations, and those that wait), and what was counted since the
%% start, or since another version of the library was loaded: `accepted' connections,
%% `answered' and `unanswered' requests, `registered' and `unregistered' nodes,
%% of those the `evicted' ones (see `evict_stale' in {@link config()}), those `not_kept' (the
%% service manager had no room for another descriptor),
%% `lookups_hit', `lookups_missed', `listings', `refused' by reason, connections
%% that were `silent' (closed without a byte), `timed_out', `unread' (the reply
%% was) or `panicked' (by a defect), and how often it was `out_of_descriptors'.

-type exposure() :: all | lookup | local.
%% What peers on other hosts may ask for: `all' is to look names up and to list
%% them; `lookup' to look up a name that they know; `local' nothing. What would
%% change something is for peers on this host alone, whatever this says.

-type options() :: #{
    type => byte(),
    protocol => byte(),
    highest_version => 0..65535,
    lowest_version => 0..65535,
    extra => binary()
}.
%% What else a registration says; by default that of an `erl' node: 77, 0, 6,
%% 5, and no extra data (at most 1,020 bytes).

-type config() :: #{
    port => inet:port_number(),
    addresses => all | [inet:ip_address() | string() | binary()],
    exposure => exposure(),
    relaxed_command_check => boolean(),
    evict_stale => boolean(),
    packet_timeout => 1..86400,
    delay_accept => 0..86400,
    delay_write => 0..86400,
    remembered_names => 0..16#ffffffff,
    raise_file_limit => boolean(),
    process_name => string() | binary(),
    trim_memory => boolean(),
    systemd => boolean(),
    stored_descriptors => 0..16#ffffffff,
    state_file => default | none | string() | binary(),
    takeover_socket => default | none | string() | binary(),
    takeover => boolean(),
    log_level => default | logger:level() | all | none,
    debug => byte()
}.
%% `port': 4369 by default; 0 lets the system choose. `addresses': `all' by
%% default; loopback addresses are added to a list. `exposure': `all' by default;
%% with `local', all addresses are the loopback ones, and whoever comes from
%% another host to any other that is listened on is refused unanswered.
%% `relaxed_command_check': allow STOP, and KILL while nodes are registered;
%% `false' by default. `evict_stale': have a node make way for another one of its
%% name when the socket that listened on its port as it registered listens no
%% more, though its connection still stands (a child of it may have inherited
%% that); `true' by default. A node stays that was not seen to listen, that named a
%% protocol other than TCP, on whose port another socket listens (unless that
%% is the port of the other node, too), or of which the system does not tell; and so
%% do the names of this VM. `packet_timeout': seconds that a connection may be silent
%% before its request is complete, or may leave its reply unread; 60 by default.
%% `delay_accept', `delay_write': seconds that a connection waits before it is
%% accepted, and a reply before it is sent, to have a test see a busy server; 0
%% by default. `remembered_names': the number of names of gone nodes from which
%% on a new name has the oldest forgotten; 1000 by default.
%% `raise_file_limit': raise the soft limit of open files to the hard one;
%% `false' by default, for a node that does nothing else. `process_name': what
%% `ps' and others call the process, at most 15 bytes; by default, or if empty, what
%% they call it anyway. `trim_memory': give memory that only the start needed back
%% to the system; `false' by default. These too are for a node that does nothing else.
%% `systemd': serve on the listening sockets that a service manager handed over to
%% this VM, and tell it how the port mapper is (`READY', `STATUS', `STOPPING',
%% `WATCHDOG'); `false' by default. `stored_descriptors': how many descriptors the
%% service manager keeps for this VM (its `FileDescriptorStoreMax'), so that nodes
%% stay registered when it is killed and started again; 0 by default: none.
%% `state_file': a file to record what is registered in, so that a node that registers
%% again after VM and service manager are gone gets the creation that it had: a path, or
%% `default' (`nodes-PORT', where `takeover_socket' is by default), or `none', the default.
%% `takeover_socket': the Unix socket at which a successor takes
%% over, as {@link takeover/1} and `epmd -takeover' do, of the same user alone:
%% `none', or a path of at most 90 bytes, or `default', which is `takeover-PORT' in
%% `$RUNTIME_DIRECTORY', else for root in `/run/portmapper', else in
%% `$XDG_RUNTIME_DIR/portmapper', else in `/tmp/portmapper-UID'. `takeover': take over
%% from the port mapper on `port' instead of binding it; `false' by default, and again once
%% that is done. `log_level': log from this level on, whatever
%% logger's own level is; `default' by default.
%% `debug': log at level `debug' what peers ask (1), also their connections (2),
%% also the bytes of requests (3); 0 by default.

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
%% or none, `?' for one.
%%
%% ```
%% portmapper:names("web*").
%% [{<<"web2">>,40123},{<<"web1">>,35437}]
%% '''
-spec names(Glob :: name()) -> [{Name :: binary(), inet:port_number()}].
names(Glob) ->
    Binary = to_binary(Glob),
    portmapper_server:call(fun(Server) -> portmapper_nif:names(Server, Binary) end).

%% @equiv lookup(Name, #{holder => true})
-spec lookup(name()) -> {ok, node_info()} | {error, not_found}.
lookup(Name) ->
    Binary = to_binary(Name),
    portmapper_server:call(fun(Server) -> portmapper_nif:lookup_with_holder(Server, Binary) end).

%% @doc The node of this name. To find its holder takes a while, some milliseconds
%% on a busy host: every descriptor of every process may have to be looked at.
%% Without it, the look-up takes less than a microsecond.
-spec lookup(name(), #{holder => boolean()}) ->
    {ok, node_info()}
    | {error,
        not_found
        | {bad_option, #{key := term(), value := term(), expected := binary()}}}.
lookup(Name, Options) when map_size(Options) =:= 0 ->
    lookup(Name);
lookup(Name, #{holder := true} = Options) when map_size(Options) =:= 1 ->
    lookup(Name);
lookup(Name, #{holder := false} = Options) when map_size(Options) =:= 1 ->
    Binary = to_binary(Name),
    portmapper_server:call(fun(Server) -> portmapper_nif:lookup(Server, Binary) end);
lookup(_Name, Options) ->
    [Error | _] =
        [Error || {Key, Value} <- maps:to_list(Options), Error <- bad_lookup(Key, Value)],
    {error, {bad_option, Error}}.

bad_lookup(holder, Value) when is_boolean(Value) -> [];
bad_lookup(holder, Value) -> wrong(holder, Value, <<"true or false">>);
bad_lookup(Key, Value) -> wrong(Key, Value, <<"holder">>).

%% @doc How many nodes are registered.
-spec count() -> non_neg_integer().
count() ->
    portmapper_server:call(fun portmapper_nif:count/1).

%% @doc What the port mapper tells of itself.
-spec info() -> info().
info() ->
    portmapper_server:call(fun portmapper_nif:info/1).

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
%% Errors: `name_in_use', `invalid_name' (empty, or with a NUL),
%% `name_too_long', `extra_too_long', and `{bad_option, Map}' for a key or
%% value that is wrong.
-spec register(name(), inet:port_number(), options()) ->
    {ok, creation()}
    | {error,
        name_in_use
        | invalid_name
        | name_too_long
        | extra_too_long
        | {bad_option, #{key := term(), value := term(), expected := binary()}}}.
register(Name, Port, Options) ->
    Defaults = #{
        type => 77, protocol => 0, highest_version => 6, lowest_version => 5, extra => <<>>
    },
    All = maps:merge(Defaults, Options),
    Wrong = [Error || {Key, Value} <- maps:to_list(All), Error <- bad_option(Key, Value)],
    case integer(port, Port, 65535) ++ Wrong of
        [] ->
            #{type := Type, protocol := Protocol, extra := Extra} = All,
            #{highest_version := Highest, lowest_version := Lowest} = All,
            Binary = to_binary(Name),
            portmapper_server:call(fun(Server) ->
                portmapper_nif:register(
                    Server, Binary, Port, Type, Protocol, Highest, Lowest, Extra
                )
            end);
        [Error | _] ->
            {error, {bad_option, Error}}
    end.

bad_option(extra, Value) when is_binary(Value) -> [];
bad_option(extra, Value) -> wrong(extra, Value, <<"a binary">>);
bad_option(Key, Value) when Key =:= type; Key =:= protocol -> integer(Key, Value, 255);
bad_option(Key, Value) when Key =:= highest_version; Key =:= lowest_version ->
    integer(Key, Value, 65535);
bad_option(Key, Value) ->
    wrong(Key, Value, <<"one of type, protocol, highest_version, lowest_version, extra">>).

integer(_Key, Value, Max) when is_integer(Value), Value >= 0, Value =< Max -> [];
integer(Key, Value, Max) ->
    wrong(Key, Value, <<"an integer from 0 to ", (integer_to_binary(Max))/binary>>).

wrong(Key, Value, Expected) ->
    [#{key => Key, value => Value, expected => Expected}].

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
