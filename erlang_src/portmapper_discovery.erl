%% @doc Keeps a distributed node connected to the nodes that match a pattern, on its own host
%% and on others. It needs no port mapper of this kind: those that know WATCH are followed
%% ({@link portmapper_watch}), and any other EPMD is asked time and again. Neither the
%% library nor the application `portmapper' need be there.
%%
%% ```
%% Options = #{glob => "web*", hosts => [local, "db.example", {dns, "web.example"}]},
%% {ok, {#{}, [portmapper_discovery:child_spec(Options)]}}.   % of a supervisor's init/1
%%
%% {ok, Reference} = portmapper_discovery:subscribe(),
%% receive {portmapper_discovery, Reference, {nodes, Nodes}} -> Nodes end.
%% ['web2@db.example']
%% '''
%%
%% A name `n1' that is found on a host stands for the node `n1@HOST', with the host as it is
%% given here, be it a name or an address, with long names and with short ones: so write it as
%% the nodes there do. For `local', this host, it is what is behind the `@' in the name of this
%% node. For `{dns, Name}' it is the address; all addresses of that name, of both families, are
%% hosts, and it is resolved again and again. `node_host' says otherwise. Hosts of which it is
%% the same are one: the first is asked.
%%
%% A node is connected to with `net_kernel:connect_node/1', some at a time for each host, in
%% processes of their own: nothing else waits for a host or a node that does not answer. One
%% that cannot be connected to, or whose connection ends, is tried again, first within
%% 100 ms, later every minute, for as long as it is registered; and at once when it registers
%% anew. Connections are never ended, and the node itself is left alone. The port mapper is
%% asked again for the port of the node, by the node's own client: on `ERL_EPMD_PORT'.
%%
%% Subscribers are sent `{portmapper_discovery, Reference, Event}':
%% <dl>
%% <dt>`{nodes, Nodes}'</dt><dd>All nodes that were found and are connected. The first event,
%%   and again when a subscriber did not keep up: while 10,000 messages wait for it,
%%   it is told nothing. What else was told, and still holds, comes behind it.</dd>
%% <dt>`{connected, Node}', `{disconnected, Node}'</dt><dd>What has changed, whoever connected
%%   or disconnected it.</dd>
%% <dt>`{failed, Node, Reason}'</dt><dd>It cannot be connected to: `refused' (it has another
%%   cookie, or does not answer, or another name), or why its host is not found. Told once,
%%   until it is connected.</dd>
%% <dt>`{watching, Host}', `{polling, Host}'</dt><dd>How is known now what is registered
%%   there.</dd>
%% <dt>`{lost, Host, Reason}'</dt><dd>It is not known any more. Told once, until it is
%%   again.</dd>
%% <dt>`{ignored, Host, Name}'</dt><dd>There are more than `max_names' names, this is the first
%%   that was too many. Told once.</dd>
%% <dt>`{gone, Host}'</dt><dd>The name of `{dns, Name}' has this address no more: its nodes are
%%   no longer looked after, nor in `{nodes, Nodes}'.</dd>
%% <dt>`{unresolved, Name, Reason}'</dt><dd>It has no address now, so those of before hold.
%%   Told once, until it has.</dd>
%% </dl>
-module(portmapper_discovery).
-behaviour(gen_server).

-export([child_spec/1, start_link/1, subscribe/0, subscribe/1, unsubscribe/1, unsubscribe/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, resolve/1]).
-export_type([options/0, source/0, host/0, event/0]).

%% Messages that may wait for a subscriber.
-define(MAX_QUEUE, 10_000).
%% Milliseconds until it is looked again whether it has read them.
-define(RETRY, 100).
%% Addresses of one name that are looked at.
-define(MAX_ADDRESSES, 1_000).

-type source() :: local | portmapper_remote:host() | {dns, inet:hostname() | binary()}.

-type host() :: local | portmapper_remote:host().
%% As given; an address of a name as a tuple.

-type options() :: #{
    name => atom(),
    glob => portmapper:name(),
    hosts => [source()],
    port => 1..65535,
    interval => 1..16#7fffffff,
    timeout => 1..16#7fffffff,
    max_names => pos_integer(),
    node_host => fun((host()) -> unicode:chardata()),
    connect => fun((node()) -> boolean() | ignored)
}.
%% <dl>
%% <dt>`name'</dt><dd>What the process is registered as, `portmapper_discovery' by
%%   default.</dd>
%% <dt>`glob'</dt><dd>Which names, as in {@link portmapper:names/1}. `"*"' by default.</dd>
%% <dt>`hosts'</dt><dd>`[local]' by default.</dd>
%% <dt>`port'</dt><dd>Of all port mappers, by default that of `ERL_EPMD_PORT', else 4369.</dd>
%% <dt>`interval'</dt><dd>Milliseconds from one look to the next where WATCH is not known, and
%%   of addresses. 5000 by default.</dd>
%% <dt>`timeout'</dt><dd>Milliseconds that a port mapper has for its answer, 5000 by
%%   default.</dd>
%% <dt>`max_names'</dt><dd>How many different names are taken from one host, 10,000 by
%%   default: each makes an atom, of which a VM never has fewer again.</dd>
%% <dt>`node_host'</dt><dd>Makes the part of a node's name behind the `@' from the host.</dd>
%% <dt>`connect'</dt><dd>What connects, in place of `net_kernel:connect_node/1'.</dd>
%% </dl>

-type event() ::
    {nodes, [node()]}
    | {connected, node()}
    | {disconnected, node()}
    | {failed, node(), Reason :: term()}
    | {watching, host()}
    | {polling, host()}
    | {lost, host(), portmapper_remote:reason()}
    | {ignored, host(), Name :: binary()}
    | {gone, host()}
    | {unresolved, inet:hostname() | binary(), inet:posix()}.

-record(state, {
    options :: map(),
    %% By the part of the nodes' names behind the `@'.
    hosts = #{} :: #{binary() => {host(), pid()}},
    %% What has its addresses looked up.
    resolvers = #{} :: #{Monitor :: reference() => inet:hostname() | binary()},
    addresses :: #{inet:hostname() | binary() => {found | unresolved, [inet:ip_address()]}},
    %% What was told and still holds, by what it is about, and the host's process that told it.
    holds = #{} :: #{{atom(), term()} => {event(), pid()}},
    subscribers = #{} :: #{reference() => {pid(), is_told | is_behind}}
}).

%% @doc For a supervisor of yours.
-spec child_spec(options()) -> supervisor:child_spec().
child_spec(Options) ->
    #{id => maps:get(name, Options, ?MODULE), start => {?MODULE, start_link, [Options]}}.

%% @doc Begins, without waiting for anything. `not_distributed': this VM is no node (yet).
-spec start_link(options()) ->
    {ok, pid()}
    | {error,
        portmapper_options:bad_option() | not_distributed | {already_started, pid()}}.
start_link(Options) ->
    case portmapper_options:discovery(Options) of
        {ok, #{name := Name} = All} when node() =/= nonode@nohost ->
            gen_server:start_link({local, Name}, ?MODULE, All, []);
        {ok, _} ->
            {error, not_distributed};
        {error, _} = Error ->
            Error
    end.

%% @equiv subscribe(portmapper_discovery)
-spec subscribe() -> {ok, reference()}.
subscribe() -> subscribe(?MODULE).

%% @doc Has the caller told what happens. One that ends is forgotten.
-spec subscribe(Name :: atom()) -> {ok, reference()}.
subscribe(Name) when is_atom(Name) ->
    gen_server:call(Name, {subscribe, self()}).

%% @equiv unsubscribe(portmapper_discovery, Reference)
-spec unsubscribe(reference()) -> ok.
unsubscribe(Reference) -> unsubscribe(?MODULE, Reference).

%% @doc Ends a subscription of the caller. No message of it comes afterwards.
-spec unsubscribe(Name :: atom(), reference()) -> ok.
unsubscribe(Name, Reference) when is_atom(Name) ->
    ok = gen_server:call(Name, {unsubscribe, Reference}),
    flush(Reference).

flush(Reference) ->
    receive
        {?MODULE, Reference, _Event} -> flush(Reference)
    after 0 -> ok
    end.

%% @private
-spec init(map()) -> {ok, #state{}}.
init(#{hosts := Sources} = Options) ->
    {Names, Hosts} = lists:partition(fun is_resolved/1, Sources),
    Addresses = maps:from_list([{Name, {found, []}} || {dns, Name} <- Names]),
    State = #state{options = Options#{hosts := Hosts}, addresses = Addresses},
    _ = [self() ! {resolve, Name} || Name <- maps:keys(Addresses)],
    {ok, follow(State)}.

is_resolved({dns, _Name}) -> true;
is_resolved(_Host) -> false.

%% @private
handle_call({subscribe, Pid}, _From, #state{subscribers = Subscribers} = State) ->
    Reference = monitor(process, Pid),
    Told = told(Reference, Pid, all(State)),
    {reply, {ok, Reference}, State#state{subscribers = Subscribers#{Reference => Told}}};
handle_call({unsubscribe, Reference}, _From, State) ->
    true = demonitor(Reference, [flush]),
    {reply, ok, forget(Reference, State)}.

%% @private
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
handle_info({portmapper_discovery_host, Pid, Event}, #state{hosts = Hosts} = State) ->
    case lists:keymember(Pid, 2, maps:values(Hosts)) of
        true -> {noreply, tell(Event, Pid, State)};
        false -> {noreply, State}
    end;
handle_info({resolve, Name}, #state{resolvers = Resolvers} = State) ->
    {_Pid, Monitor} = spawn_monitor(?MODULE, resolve, [Name]),
    {noreply, State#state{resolvers = Resolvers#{Monitor => Name}}};
handle_info({'DOWN', Monitor, process, _Pid, {resolved, Result}}, State) ->
    #state{options = #{interval := Interval}, resolvers = Resolvers} = State,
    {Name, Others} = maps:take(Monitor, Resolvers),
    _ = erlang:send_after(Interval, self(), {resolve, Name}),
    {noreply, resolved(Name, Result, State#state{resolvers = Others})};
handle_info({look, Reference}, #state{subscribers = Subscribers} = State) ->
    case Subscribers of
        #{Reference := {Pid, is_behind}} ->
            Told = told(Reference, Pid, all(State)),
            {noreply, State#state{subscribers = Subscribers#{Reference := Told}}};
        _ ->
            {noreply, State}
    end;
handle_info({'DOWN', Reference, process, _Pid, _Reason}, State) ->
    {noreply, forget(Reference, State)};
handle_info(_Message, State) ->
    {noreply, State}.

%% What a subscriber has to be told that knows nothing.
all(#state{holds = Holds}) ->
    Events = [Event || {Event, _Pid} <- maps:values(Holds)],
    Connected = [Node || {connected, Node} <- Events],
    [{nodes, lists:sort(Connected)} | [Event || Event <- Events, element(1, Event) =/= connected]].

forget(Reference, #state{subscribers = Subscribers} = State) ->
    State#state{subscribers = maps:remove(Reference, Subscribers)}.

tell(Event, From, #state{subscribers = Subscribers, holds = Holds} = State) ->
    Tell = fun
        (Reference, {Pid, is_told}) -> told(Reference, Pid, [Event]);
        (_Reference, Behind) -> Behind
    end,
    State#state{
        subscribers = maps:map(Tell, Subscribers),
        holds = hold(Event, From, Holds)
    }.

hold({connected, Node} = Event, From, Holds) -> Holds#{{node, Node} => {Event, From}};
hold({failed, Node, _} = Event, From, Holds) -> Holds#{{node, Node} => {Event, From}};
hold({disconnected, Node}, _From, Holds) -> maps:remove({node, Node}, Holds);
hold({ignored, Host, _} = Event, From, Holds) -> Holds#{{ignored, Host} => {Event, From}};
hold({unresolved, Name, _} = Event, From, Holds) -> Holds#{{name, Name} => {Event, From}};
hold({gone, _Host}, From, Holds) -> maps:filter(fun(_About, {_, Of}) -> Of =/= From end, Holds);
hold(Event, From, Holds) -> Holds#{{host, element(2, Event)} => {Event, From}}.

told(Reference, Pid, Events) ->
    case process_info(Pid, message_queue_len) of
        {message_queue_len, Length} when Length >= ?MAX_QUEUE ->
            _ = erlang:send_after(?RETRY, self(), {look, Reference}),
            {Pid, is_behind};
        _ ->
            _ = [Pid ! {?MODULE, Reference, Event} || Event <- Events],
            {Pid, is_told}
    end.

%% @private
%% All addresses of a name.
-spec resolve(inet:hostname() | binary()) -> no_return().
resolve(Name) ->
    Text = unicode:characters_to_list(Name),
    Results = [inet:getaddrs(Text, Family) || Family <- [inet, inet6]],
    case lists:append([Addresses || {ok, Addresses} <- Results]) of
        [] -> exit({resolved, hd(Results)});
        Addresses -> exit({resolved, {ok, lists:usort(Addresses)}})
    end.

resolved(Name, {ok, Found}, #state{addresses = Addresses, holds = Holds} = State) ->
    Some = lists:sublist(Found, ?MAX_ADDRESSES),
    follow(State#state{
        addresses = Addresses#{Name := {found, Some}}, holds = maps:remove({name, Name}, Holds)
    });
resolved(Name, {error, Reason}, #state{addresses = Addresses} = State) ->
    case Addresses of
        #{Name := {unresolved, _}} -> State;
        #{Name := {_, Before}} ->
            Unresolved = Addresses#{Name := {unresolved, Before}},
            tell({unresolved, Name, Reason}, self(), State#state{addresses = Unresolved})
    end.

%% Follows the hosts that there are now, and no others.
follow(#state{options = Options, hosts = Before, addresses = Addresses} = State) ->
    Found = lists:append([Some || {_, Some} <- maps:values(Addresses)]),
    Named = [{node_host(Host, Options), Host} || Host <- maps:get(hosts, Options) ++ Found],
    %% The first of a key is the one that stays.
    Now = maps:from_list(lists:reverse(Named)),
    Kept = maps:filter(fun(Part, {Host, _}) -> maps:get(Part, Now, none) =:= Host end, Before),
    Gone = maps:values(maps:without(maps:keys(Kept), Before)),
    New = maps:map(fun(Part, Host) ->
        {ok, Pid} = portmapper_discovery_host:start_link(Host, Part, Options),
        {Host, Pid}
    end, maps:without(maps:keys(Kept), Now)),
    lists:foldl(fun leave/2, State#state{hosts = maps:merge(Kept, New)}, Gone).

leave({Host, Pid}, State) ->
    true = unlink(Pid),
    true = exit(Pid, shutdown),
    tell({gone, Host}, Pid, State).

-spec node_host(host(), map()) -> binary().
node_host(Host, #{node_host := Fun}) ->
    unicode:characters_to_binary(Fun(Host)).
