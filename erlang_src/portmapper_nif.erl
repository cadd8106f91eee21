%% @doc The boundary to the Rust server, `native/epmd_nif'. Only
%% {@link portmapper_server}, {@link portmapper_events} and {@link portmapper} call it.
%%
%% The owner, the process that attached last, is sent the atom `portmapper'
%% when there are notices to take or the phase has changed, and `{portmapper,
%% Notices, Missed}' with what it has not taken when the server has moved to
%% another version of the library.
-module(portmapper_nif).

-include_lib("kernel/include/file.hrl").

-export([
    load/0,
    start/3,
    attach/1,
    phase/1,
    resume/1,
    trim_memory/0,
    resources/0,
    stop/1,
    leave/1,
    hand_on/1,
    stand_by/1,
    stand_down/0,
    adopt/3,
    panic_thread/1,
    take_notices/2,
    attach_teller/1,
    subscribe/3,
    unsubscribe/1,
    subscriptions/0,
    deliver/3,
    deliver_all/2,
    end_subscriptions/0,
    count_suppressed/2,
    lookup/2,
    lookup_with_holder/2,
    names/2,
    count/1,
    register/8,
    unregister/2,
    drop_name/2,
    info/1,
    config/1,
    reconfigure/2
]).
-export_type([
    server/0, phase/0, config/0, variable/0, config_error/0, listen_error/0,
    takeover_error/0, notice/0
]).

-opaque server() :: pos_integer().
%% The server of this VM: there is one at the most. Most calls fail with
%% `{not_running, portmapper}' if there is none. In an upgrade, they may fail with
%% `moved', if they are late and are to be made again, `{cannot_load_library, Text}', or
%% `{not_handed_over, Text}'.
-type phase() :: running | down | closed | none | elsewhere.
%% `down': the server's thread has died, every socket is still there. `none': there
%% is no server. `elsewhere': it could not be moved from another version of the
%% library that was loaded before.
-type config() :: #{atom() => term()}.
%% As {@link portmapper:config()}, with addresses as binaries.
-type variable() :: {Name :: binary(), Value :: binary()}.
%% Of the environment of the operating system.
-type config_error() ::
    {bad_config, #{key := term(), value := term(), expected := binary()}}.
-type listen_error() ::
    {address_in_use, #{
        address := inet:ip_address(),
        port := inet:port_number(),
        holder := #{pid := integer(), program := binary()} | unknown
    }}
    | {cannot_bind, #{
        address := inet:ip_address(), port := inet:port_number(), reason := binary()
    }}
    | {too_many_addresses, #{count := pos_integer()}}
    | {not_listening, #{descriptor := integer()}}
    | {bad_estate, #{reason := binary()}}
    | {service_manager_unreachable, #{reason := binary()}}
    | {cannot_start_thread, #{reason := binary()}}.
-type takeover_error() ::
    {no_port_mapper, #{path := binary(), reason := binary()}}
    | {takeover_not_permitted, #{path := binary()}}
    | {takeover_refused, #{reason := service_manager | taken_over | version | not_permitted}}
    | {takeover_failed, #{reason := binary()}}.
%% Nobody is there, the socket is another user's, the other one does not hand over, or
%% something failed on the way.
-type peer() :: portmapper:peer().
-type notice() ::
    {up, Name :: binary(), inet:port_number(), portmapper:creation(), peer() | vm}
    | {down, Name :: binary(), portmapper:creation(), Reason :: atom()}
    | {connected, peer()}
    | {asked, peer(), Request :: binary(), Name :: binary() | undefined}
    | {received, peer(), Body :: binary()}
    | {refused, peer(), Reason :: atom(), Name :: binary() | undefined}
    | {too_many, peer(), Reason :: atom(), Name :: binary() | undefined, portmapper:holder()}
    | {evicted, Name :: binary(), inet:port_number(), peer() | vm, Successor :: peer() | vm}
    | {timed_out, peer()}
    | {crowded_out, peer()}
    | {panicked, peer()}
    | out_of_descriptors
    | descriptors_suffice
    | {address_skipped, peer(), Reason :: binary()}
    | {file_limit_kept, Reason :: binary()}
    | {went_on, Nodes :: non_neg_integer(), Gone :: non_neg_integer()}
    | {store_too_small, Slots :: pos_integer(), Limit :: pos_integer()}
    | {not_recorded, File :: binary() | undefined, Reason :: binary()}
    | {state_file_unreadable, KeptAs :: binary(), Reason :: binary()}
    | {no_takeover_socket, Path :: binary(), Reason :: binary(), IsRequired :: boolean()}
    | {not_taken_over, Pid :: integer(), Reason :: binary()}
    | {taken_over, Pid :: integer()}
    | {service_manager_unreachable, Reason :: binary()}
    | {killed, peer()}.

%% @doc Loads the library, unless it is loaded. Not done by `-on_load', which
%% does not work as early as a boot script in embedded mode needs it.
-spec load() -> ok | {error, {Reason :: atom(), Text :: string()}}.
load() ->
    case erlang:load_nif(library(), 0) of
        ok -> ok;
        {error, {reload, _}} -> ok;
        %% This code has a successor.
        {error, {old_code, _}} -> ok;
        {error, _} = Error -> Error
    end.

%% A call that came before the library: this module was loaded anew, which the
%% server outlives.
-spec loaded(Function :: atom(), [term()]) -> term().
loaded(Function, Arguments) ->
    case load() of
        ok ->
            Nifs = ?MODULE:module_info(nifs),
            %% There are none if the module has been loaded once more meanwhile.
            Nifs =:= [] orelse lists:member({Function, length(Arguments)}, Nifs) orelse
                erlang:nif_error({not_in_library, Function}),
            apply(?MODULE, Function, Arguments);
        {error, {_Reason, Text}} ->
            erlang:nif_error({cannot_load_library, Text})
    end.

%% The system takes a file for the one that it has mapped by the same name, though
%% another one may have been put in its place. So the name has the number of the
%% file in it, in as many bits of path that lead nowhere.
-spec library() -> file:filename().
library() ->
    Name = filename:join(priv_dir(), ?MODULE_STRING),
    %% Before the file server is there, too.
    case file:read_file_info(Name ++ ".so", [raw]) of
        {ok, #file_info{inode = Inode}} ->
            Bits = integer_to_list(Inode, 2),
            Path = [case Bit of $0 -> "/"; $1 -> "/." end || Bit <- Bits],
            lists:flatten([filename:dirname(Name), Path, "/", ?MODULE_STRING]);
        {error, _} ->
            Name
    end.

-spec priv_dir() -> file:filename().
priv_dir() ->
    case code:priv_dir(portmapper) of
        {error, bad_name} ->
            %% Not in a directory of that name: found from where this code is.
            filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv");
        Dir ->
            Dir
    end.

%% @doc Serves with what was handed over to this process by these descriptors,
%% which are the server's from then on: sockets that listen, and what a VM before had a
%% service manager keep for it. Binds itself if no socket listens. Nothing is
%% bound after an error, and nothing closed that somebody else has too. Speaks the protocol of the service manager
%% that the variables tell of: as long as the owner takes notices when it is
%% woken, a watchdog hears of it. If the configuration says so and there are no
%% descriptors, it takes over from another port mapper instead.
-spec start(config(), Descriptors :: [non_neg_integer()], [variable()]) ->
    {ok, server()} | {error, config_error() | listen_error() | takeover_error()}.
start(Config, Descriptors, Variables) ->
    loaded(?FUNCTION_NAME, [Config, Descriptors, Variables]).

%% @doc Makes the caller the owner, unless it is. When the owner ends and no other
%% attaches within 5 seconds, the server closes.
-spec attach(server()) -> phase().
attach(Server) ->
    loaded(?FUNCTION_NAME, [Server]).

%% @doc Whether the server serves.
-spec phase(server()) -> phase().
phase(Server) ->
    loaded(?FUNCTION_NAME, [Server]).

%% @doc Replaces the thread of a server that is down, on the same sockets.
%% Still `down' if there is no thread to be had.
-spec resume(server()) -> phase().
resume(Server) ->
    loaded(?FUNCTION_NAME, [Server]).

%% @doc Gives memory back to the system: what the C library keeps for later, and the code
%% of the virtual machine and of this library, of which what is called again is mapped again.
-spec trim_memory() -> ok.
trim_memory() ->
    loaded(?FUNCTION_NAME, []).

%% @doc How many terms of Rust's the VM has, for tests of what a stop leaves behind.
-spec resources() -> non_neg_integer().
resources() ->
    loaded(?FUNCTION_NAME, []).

%% @doc Closes every socket, and waits for that.
-spec stop(server()) -> ok.
stop(Server) ->
    loaded(?FUNCTION_NAME, [Server]).

%% @doc The same before this VM is started anew: the connections of nodes that a
%% service manager keeps stay open, for the next one.
-spec leave(server()) -> ok.
leave(Server) ->
    loaded(?FUNCTION_NAME, [Server]).

%% @doc Hands everything over to another VM that stands by; whether one serves now. If
%% not, this one goes on.
-spec hand_on(server()) -> boolean().
hand_on(Server) ->
    loaded(?FUNCTION_NAME, [Server]).

%% @doc Stands by for the port mapper on the port of the configuration: has everything
%% taken over from it when it stops in an orderly way. The caller is sent
%% `{portmapper_stand_by, {ok, Server}}' then; it has five seconds to become the owner. Or
%% else, `{portmapper_stand_by, ended}', when that port mapper is gone otherwise, or does
%% not hand over. There is one that stands by in a VM at the most.
-spec stand_by(config()) -> {ok, {}} | {error, config_error() | takeover_error()}.
stand_by(Config) ->
    loaded(?FUNCTION_NAME, [Config]).

%% @doc Stands by no longer, if it does.
-spec stand_down() -> ok.
stand_down() ->
    loaded(?FUNCTION_NAME, []).

%% @doc Makes a name that was registered from a port of this VM, by a connection, one that
%% {@link register/8} registers.
-spec adopt(server(), Name :: binary(), PeerPort :: inet:port_number()) ->
    {ok, portmapper:creation()} | {error, not_found}.
adopt(Server, Name, PeerPort) ->
    loaded(?FUNCTION_NAME, [Server, Name, PeerPort]).

%% @doc Has the server's thread panic, for tests of what comes after.
-spec panic_thread(server()) -> ok.
panic_thread(Server) ->
    loaded(?FUNCTION_NAME, [Server]).

%% @doc The oldest notices, at most `Limit', and how many were missed since the
%% last call. The owner is woken again once it got fewer than `Limit'.
-spec take_notices(server(), Limit :: pos_integer()) ->
    {[notice()], Missed :: non_neg_integer()}.
take_notices(Server, Limit) ->
    loaded(?FUNCTION_NAME, [Server, Limit]).

%% @doc Makes the caller the one that is sent the atom `portmapper' when nodes have come
%% or gone since this call. The number of the library, which keeps the subscriptions.
-spec attach_teller(server()) -> Library :: pos_integer().
attach_teller(Server) ->
    loaded(?FUNCTION_NAME, [Server]).

%% @doc Adds a subscription, unless it is there. `false' for a pattern that is none.
-spec subscribe(reference(), pid(), Glob :: binary()) -> boolean().
subscribe(Reference, Pid, Glob) ->
    loaded(?FUNCTION_NAME, [Reference, Pid, Glob]).

%% @doc Whether the subscription was there.
-spec unsubscribe(reference()) -> boolean().
unsubscribe(Reference) ->
    loaded(?FUNCTION_NAME, [Reference]).

%% @doc All that there are.
-spec subscriptions() -> [{reference(), pid(), Glob :: binary()}].
subscriptions() ->
    loaded(?FUNCTION_NAME, []).

%% @doc Sends a subscriber what has happened to its nodes, from at most `Limit' changes.
%% What is left: nothing, more, or that all nodes are to be sent, by {@link deliver_all/2}.
-spec deliver(server(), reference(), Limit :: pos_integer()) -> none | more | all.
deliver(Server, Reference, Limit) ->
    loaded(?FUNCTION_NAME, [Server, Reference, Limit]).

%% @doc Sends a subscriber all its nodes; whether it is one.
-spec deliver_all(server(), reference()) -> boolean().
deliver_all(Server, Reference) ->
    loaded(?FUNCTION_NAME, [Server, Reference]).

%% @doc Tells all subscribers that this is the end, and forgets them.
-spec end_subscriptions() -> ok.
end_subscriptions() ->
    loaded(?FUNCTION_NAME, []).

%% @doc Counts lines that were not logged.
-spec count_suppressed(server(), Lines :: pos_integer()) -> ok.
count_suppressed(Server, Lines) ->
    loaded(?FUNCTION_NAME, [Server, Lines]).

%% @doc See {@link portmapper:lookup/2}: without the holder.
-spec lookup(server(), binary()) -> {ok, portmapper:node_info()} | {error, not_found}.
lookup(Server, Name) ->
    loaded(?FUNCTION_NAME, [Server, Name]).

%% @doc See {@link portmapper:lookup/1}.
-spec lookup_with_holder(server(), binary()) ->
    {ok, portmapper:node_info()} | {error, not_found}.
lookup_with_holder(Server, Name) ->
    loaded(?FUNCTION_NAME, [Server, Name]).

%% @doc See {@link portmapper:names/1}.
-spec names(server(), Glob :: binary()) -> [{binary(), inet:port_number()}].
names(Server, Glob) ->
    loaded(?FUNCTION_NAME, [Server, Glob]).

%% @doc See {@link portmapper:count/0}.
-spec count(server()) -> non_neg_integer().
count(Server) ->
    loaded(?FUNCTION_NAME, [Server]).

%% @doc See {@link portmapper:register/3}.
-spec register(
    server(),
    Name :: binary(),
    inet:port_number(),
    Type :: byte(),
    Protocol :: byte(),
    HighestVersion :: 0..65535,
    LowestVersion :: 0..65535,
    Extra :: binary()
) -> {ok, portmapper:creation()} | {error, atom()}.
register(Server, Name, Port, Type, Protocol, Highest, Lowest, Extra) ->
    loaded(?FUNCTION_NAME, [Server, Name, Port, Type, Protocol, Highest, Lowest, Extra]).

%% @doc Whether the VM had registered the name.
-spec unregister(server(), binary()) -> boolean().
unregister(Server, Name) ->
    loaded(?FUNCTION_NAME, [Server, Name]).

%% @doc Whether the name was registered.
-spec drop_name(server(), binary()) -> boolean().
drop_name(Server, Name) ->
    loaded(?FUNCTION_NAME, [Server, Name]).

%% @doc See {@link portmapper:info/0}.
-spec info(server()) -> portmapper:info().
info(Server) ->
    loaded(?FUNCTION_NAME, [Server]).

%% @doc The configuration in force.
-spec config(server()) -> config().
config(Server) ->
    loaded(?FUNCTION_NAME, [Server]).

%% @doc Takes over a whole configuration. Nothing has changed after an error.
-spec reconfigure(server(), config()) ->
    {ok, {}}
    | {error,
        config_error() | listen_error() | {needs_restart, #{key := atom()}} | closed}.
reconfigure(Server, Config) ->
    loaded(?FUNCTION_NAME, [Server, Config]).
