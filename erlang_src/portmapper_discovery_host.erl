%% @doc One host of {@link portmapper_discovery}: which names are registered there, by WATCH
%% or else by asking for them now and then, and so which nodes to be connected to.
%%
%% The process that starts it is sent `{portmapper_discovery_host, Pid, Event}', and ends
%% with it.
-module(portmapper_discovery_host).
-behaviour(gen_server).

-export([start_link/3, node_host/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, ask/1]).

-record(state, {
    host :: portmapper_discovery:host(),
    %% What all names have behind them.
    suffix :: binary(),
    options :: map(),
    glob :: portmapper_glob:glob(),
    tell :: fun((portmapper_discovery:event()) -> ok),
    watch :: pid(),
    %% What was told of it last.
    way = none :: none | watching | polling | lost,
    %% While it is being asked, or until it is asked again.
    poll = none :: none | reference(),
    %% All names that were ever taken, and what is registered now.
    known = #{} :: #{Name :: binary() => node()},
    registered = #{} :: #{Name :: binary() => inet:port_number()},
    is_full = false :: boolean(),
    links :: portmapper_discovery_links:links()
}).

%% @doc `Part' is what is behind the `@' of the nodes there.
-spec start_link(portmapper_discovery:host(), Part :: binary(), Options :: map()) -> {ok, pid()}.
start_link(Host, Part, Options) ->
    {ok, _} = gen_server:start_link(?MODULE, {self(), Host, Part, Options}, []).

%% @doc The part of a node's name that stands for a host.
-spec node_host(portmapper_discovery:host()) -> unicode:chardata().
node_host(local) ->
    [_Name, Host] = string:split(atom_to_list(node()), "@"),
    Host;
node_host(Address) when is_tuple(Address) -> inet:ntoa(Address);
node_host(Host) when is_atom(Host) -> atom_to_binary(Host);
node_host(Host) -> Host.

%% @private
-spec init({pid(), portmapper_discovery:host(), binary(), map()}) -> {ok, #state{}}.
init({Owner, Host, Part, #{glob := Glob, connect := Connect} = Options}) ->
    Self = self(),
    Tell = fun(Event) ->
        Owner ! {?MODULE, Self, Event},
        ok
    end,
    ok = net_kernel:monitor_nodes(true, [{node_type, all}]),
    Where = maps:merge(maps:with([port, timeout], Options), #{host => address(Host)}),
    {ok, Watch} = portmapper_watch:start_link(Where#{glob => Glob}),
    {ok, Compiled} = portmapper_glob:compile(Glob),
    {ok, #state{
        host = Host,
        suffix = <<"@", Part/binary>>,
        options = maps:merge(Options, Where),
        glob = Compiled,
        tell = Tell,
        watch = Watch,
        links = portmapper_discovery_links:new(Connect, Tell)
    }}.

%% Where the nodes of this host register.
address(local) ->
    case init:get_argument(proto_dist) of
        {ok, [["inet6" ++ _]]} -> {0, 0, 0, 0, 0, 0, 0, 1};
        _ -> {127, 0, 0, 1}
    end;
address(Host) ->
    Host.

%% @private
handle_call(_Request, _From, State) ->
    {reply, ok, State}.

%% @private
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
handle_info({portmapper_watch, Watch, _Sequence, Event}, #state{watch = Watch} = State) ->
    {noreply, watched(Event, State)};
handle_info({timeout, Poll, poll}, #state{poll = Poll} = State) ->
    {noreply, poll(State)};
handle_info({'DOWN', Poll, process, _Pid, {polled, Result}}, #state{poll = Poll} = State) ->
    #state{options = #{interval := Interval}} = State,
    Next = erlang:start_timer(Interval, self(), poll),
    {noreply, polled(Result, State#state{poll = Next})};
handle_info({'DOWN', Poll, process, _Pid, Reason}, #state{poll = Poll} = State) ->
    {stop, Reason, State};
handle_info(Message, #state{links = Links} = State) ->
    {noreply, State#state{links = portmapper_discovery_links:handle(Message, Links)}}.

watched({nodes, Nodes, _Missed}, State) ->
    %% An answer that is under way is late.
    Found = [{Name, Port} || #{name := Name, port := Port} <- some(Nodes, State#state.options)],
    listed(Found, way(watching, State#state{poll = none}));
watched({up, #{name := Name, port := Port}}, State) ->
    appeared(Name, Port, State);
watched({down, #{name := Name}}, State) ->
    vanished(Name, State);
watched({lost, _Reason}, State) ->
    %% An EPMD of another kind may come, too, which would not be told.
    poll(State).

poll(#state{options = Options} = State) ->
    {_Pid, Poll} = spawn_monitor(?MODULE, ask, [Options]),
    State#state{poll = Poll}.

%% @private
-spec ask(map()) -> no_return().
ask(#{glob := Glob} = Options) ->
    case portmapper_remote:names(Glob, Options) of
        {ok, Found} -> exit({polled, {ok, some(Found, Options)}});
        {error, _} = Error -> exit({polled, Error})
    end.

%% As many as are looked at, and one more if there are more.
some(Found, #{max_names := Max}) ->
    lists:sublist(Found, Max + 1).

polled({ok, Found}, State) -> listed(Found, way(polling, State));
polled({error, Reason}, State) -> way({lost, Reason}, State).

%% Tells how it is known now what is registered, if that has changed.
way({lost, _Reason}, #state{way = lost} = State) ->
    State;
way({lost, Reason}, #state{host = Host, tell = Tell} = State) ->
    ok = Tell({lost, Host, Reason}),
    State#state{way = lost};
way(Way, #state{way = Way} = State) ->
    State;
way(Way, #state{host = Host, tell = Tell} = State) ->
    ok = Tell({Way, Host}),
    State#state{way = Way}.

%% All that is registered.
listed(Found, #state{registered = Before} = State) ->
    Gone = maps:keys(maps:without([Name || {Name, _Port} <- Found], Before)),
    New = [One || {Name, Port} = One <- Found, maps:get(Name, Before, none) =/= Port],
    Without = lists:foldl(fun vanished/2, State, Gone),
    lists:foldl(fun({Name, Port}, Now) -> appeared(Name, Port, Now) end, Without, New).

%% A name has been registered, maybe anew.
appeared(Name, Port, State) ->
    case known(Name, State) of
        {ok, Node, #state{registered = Registered, links = Links} = Known} ->
            Known#state{
                registered = Registered#{Name => Port},
                links = portmapper_discovery_links:want(Node, Links)
            };
        {none, Other} ->
            Other
    end.

vanished(Name, #state{registered = Registered} = State) when is_map_key(Name, Registered) ->
    #state{known = #{Name := Node}, links = Links} = State,
    State#state{
        registered = maps:remove(Name, Registered),
        links = portmapper_discovery_links:forget(Node, Links)
    };
vanished(_Name, State) ->
    State.

%% The node of a name, unless it is not to be connected to. The other side is not trusted to
%% have matched it.
known(Name, #state{known = Known, suffix = Suffix, glob = Glob, options = Options} = State) ->
    #{max_names := Max} = Options,
    IsFull = map_size(Known) >= Max,
    case Known of
        #{Name := Node} ->
            {ok, Node, State};
        _ ->
            case is_name(Name, Suffix) andalso portmapper_glob:matches(Name, Glob) of
                true when IsFull ->
                    {none, full(Name, State)};
                true ->
                    new(Name, binary_to_atom(<<Name/binary, Suffix/binary>>), State);
                false ->
                    {none, State}
            end
    end.

new(_Name, Node, State) when Node =:= node() ->
    {none, State};
new(Name, Node, #state{known = Known} = State) ->
    {ok, Node, State#state{known = Known#{Name => Node}}}.

full(_Name, #state{is_full = true} = State) ->
    State;
full(Name, #state{host = Host, tell = Tell} = State) ->
    ok = Tell({ignored, Host, Name}),
    State#state{is_full = true}.

%% Whether it makes the name of a node. (An atom has at most 255 characters.)
is_name(Name, Suffix) ->
    case unicode:characters_to_list(Name) of
        [_ | _] = Characters ->
            not lists:member($@, Characters) andalso
                length(Characters) + string:length(Suffix) =< 255;
        _ ->
            false
    end.
