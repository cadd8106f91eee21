%% @doc Keeps this node registered with the port mapper of its host, which may be in
%% this VM. For {@link portmapper_epmd}.
%%
%% States: `idle', there is nothing to register yet; `asking', a port mapper was asked;
%% `client', the node is registered by a connection; `lost', it is not and is tried again;
%% `host', the server is here, where the node needs no connection.
%%
%% As a client of another VM that is host this one stands by: when that stops in an orderly
%% way, this one may be handed all it has.
-module(portmapper_registration).
-behaviour(gen_statem).

-export([start_link/0, register/3, decides/0]).
-export([init/1, callback_mode/0, handle_event/4, terminate/3]).

-include_lib("kernel/include/logger.hrl").

%% Milliseconds that a port mapper has to answer the first registration, as in OTP.
-define(REPLY_TIME, 10_000).
%% Milliseconds that a connection on this host may take later, and more with each failure. If
%% the system has chosen the port of one that was closed within the last minute, and nobody
%% listens, it is not refused (TCP_TW_SYN of Linux), and is tried again after a second only.
-define(CONNECT_TIME, 25).
-define(MAX_CONNECT_TIME, 400).
%% Milliseconds that the first registration is tried for where somebody has to have the
%% port: whoever takes it does not listen at once.
-define(FIRST_TIME, 5000).
%% Milliseconds until a lost port mapper is looked for, the first time and at most: so one is
%% found within 100 ms.
-define(BACK_OFF, 10).
-define(MAX_BACK_OFF, 80).
%% The same for one that refuses or does not make sense.
-define(REFUSED_BACK_OFF, 200).
-define(MAX_REFUSED_BACK_OFF, 2000).
%% How often a connection may be closed unanswered, or fail otherwise, until that is taken for
%% a refusal.
-define(MAX_CLOSES, 8).
%% Milliseconds that this VM leaves the port to others after its server was asked to end.
-define(LEFT_TO_OTHERS, 2000).
%% Milliseconds between two looks at the server of this VM, and until a process of it
%% that has died is there again.
-define(LOOK_INTERVAL, 1000).
-define(RESTART_TIME, 20).
%% Milliseconds until it is tried again to stand by: twice as many each time.
-define(STAND_BY_TIME, 100).
-define(MAX_STAND_BY_TIME, 12_800).

-record(node, {
    name :: atom() | string(),
    port :: inet:port_number(),
    family :: inet | inet6
}).

-record(data, {
    mode :: portmapper_config:epmd_mode(),
    node :: #node{} | undefined,
    %% Whoever waits for the first registration, and until when it is tried.
    caller :: {gen_statem:from(), Deadline :: integer()} | undefined,
    socket :: gen_tcp:socket() | undefined,
    %% Of the answer.
    received = <<>> :: binary(),
    %% Failures since the last registration.
    failures = 0 :: non_neg_integer(),
    %% When this VM may take the port, in monotonic milliseconds.
    hosts_from = erlang:monotonic_time(millisecond) :: integer(),
    %% Whether this VM stands by, or when it tries again.
    stands_by = ?STAND_BY_TIME :: true | pos_integer(),
    %% Of the server's process.
    monitor :: reference() | undefined
}).

-spec start_link() -> gen_statem:start_ret().
start_link() ->
    gen_statem:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc See {@link portmapper_epmd:register_node/3}.
-spec register(atom() | string(), inet:port_number(), inet | inet6) ->
    {ok, Creation :: integer()} | {error, term()}.
register(Name, Port, Family) ->
    Node = #node{name = Name, port = Port, family = Family},
    gen_statem:call(?MODULE, {register, Node}, infinity).

%% @doc Whether it is for this process to say when this VM is the port mapper.
-spec decides() -> boolean().
decides() ->
    whereis(?MODULE) =/= undefined andalso portmapper_config:epmd_mode() =/= {ok, client}.

%% @private
callback_mode() ->
    handle_event_function.

%% @private
init([]) ->
    %% So that terminate/3 is called.
    _ = process_flag(trap_exit, true),
    case portmapper_config:epmd_mode() of
        {ok, Mode} ->
            %% That of a process before this one, which died.
            Node = persistent_term:get(?MODULE, undefined),
            begin_as(Mode, #data{mode = Mode, node = Node});
        {error, Reason} ->
            cannot_begin(Reason)
    end.

begin_as(client, Data) ->
    begin_as_client(Data);
begin_as(Mode, Data) ->
    case portmapper_server:open() of
        {ok, _Server} ->
            {ok, host, Data, {next_event, internal, serve}};
        {error, {address_in_use, _}} when Mode =:= auto ->
            begin_as_client(Data);
        {error, Reason} ->
            cannot_begin(Reason)
    end.

begin_as_client(#data{node = undefined} = Data) -> {ok, idle, Data};
begin_as_client(Data) -> {ok, lost, Data, {state_timeout, 0, try_again}}.

cannot_begin(Reason) ->
    case init:get_status() of
        {starting, _} ->
            %% The VM ends with it, before anything is logged.
            Text = io_lib:format("portmapper: ~ts~n", [portmapper_text:error(Reason)]),
            erlang:display_string(lists:flatten(Text));
        _ ->
            portmapper_log:cannot_start(Reason)
    end,
    {stop, {shutdown, Reason}}.

%% @private
handle_event({call, From}, {register, Node}, State, #data{node = undefined} = Data) ->
    Deadline = erlang:monotonic_time(millisecond) + ?FIRST_TIME,
    Asked = Data#data{node = Node, caller = {From, Deadline}},
    case State of
        host -> register_here(Asked);
        idle -> try_to_register(Asked)
    end;
handle_event({call, From}, {register, _Node}, _State, _Data) ->
    {keep_state_and_data, {reply, From, {error, already_registered}}};
handle_event(internal, serve, host, Data) ->
    serve(Data);
handle_event(state_timeout, try_again, lost, Data) ->
    try_to_register(Data);
handle_event(state_timeout, no_reply, asking, Data) ->
    failed({error, no_reg_reply_from_epmd}, close(Data));
handle_event(info, {tcp, Socket, Bytes}, asking, #data{socket = Socket} = Data) ->
    Received = <<(Data#data.received)/binary, Bytes/binary>>,
    case portmapper_client:alive2_reply(Received) of
        {ok, Creation} ->
            ok = listen_to(Socket),
            Again = {{timeout, stand_by}, 0, stand_by},
            {next_state, client, registered(Creation, Data), Again};
        incomplete ->
            ok = listen_to(Socket),
            {keep_state, Data#data{received = Received}};
        {error, _} = Error ->
            failed(Error, close(Data))
    end;
handle_event(info, {tcp, Socket, _Surplus}, client, #data{socket = Socket} = Data) ->
    %% No port mapper says more than that. Who does not stop would be heard for ever.
    ?LOG_WARNING("portmapper: what this node is registered with is no port mapper"),
    failed({error, surplus}, close(Data));
handle_event(info, {tcp_closed, Socket}, asking, #data{socket = Socket} = Data) ->
    failed({error, epmd_close}, close(Data));
handle_event(info, {tcp_closed, Socket}, client, #data{socket = Socket} = Data) ->
    ?LOG_NOTICE("portmapper: this node's port mapper has gone, another one is looked for"),
    wait(?BACK_OFF, ?MAX_BACK_OFF, close(Data));
handle_event({timeout, stand_by}, stand_by, client, Data) ->
    stand_by(Data);
handle_event(info, {portmapper_stand_by, {ok, Server}}, _State, Data) ->
    take_over(Server, Data#data{stands_by = ?STAND_BY_TIME});
handle_event(info, {portmapper_stand_by, ended}, _State, Data) ->
    Again = {{timeout, stand_by}, ?STAND_BY_TIME, stand_by},
    {keep_state, Data#data{stands_by = ?STAND_BY_TIME}, Again};
handle_event(info, {'DOWN', Monitor, process, _, _}, host, #data{monitor = Monitor} = Data) ->
    {keep_state, Data#data{monitor = undefined}, {{timeout, look}, ?RESTART_TIME, look}};
handle_event({timeout, look}, look, host, Data) ->
    look(Data);
handle_event(_Kind, _Event, _State, _Data) ->
    keep_state_and_data.

%% @private A process that dies of a defect has a successor, which goes on.
terminate(Reason, State, Data) ->
    Ends = Reason =:= normal orelse Reason =:= shutdown,
    Ends andalso leave(State, Data).

leave(State, Data) ->
    _ = persistent_term:erase(?MODULE),
    Data#data.stands_by =:= true andalso portmapper_nif:stand_down(),
    _ = close(Data),
    State =:= host andalso leave_server(Data).

leave_server(#data{node = Node}) ->
    Node =:= undefined orelse portmapper:unregister(Node#node.name),
    %% The application goes on with it.
    application_controller:get_master(portmapper) =:= undefined andalso
        portmapper_server:hand_on().

%% Asks the port mapper of this host, or becomes it.
try_to_register(#data{node = #node{family = Family}} = Data) ->
    Address =
        case Family of
            inet -> {127, 0, 0, 1};
            inet6 -> {0, 0, 0, 0, 0, 0, 0, 1}
        end,
    Port = portmapper_config:epmd_port(),
    case portmapper_client:connect(Address, Port, connect_time(Data)) of
        {ok, Socket} -> ask(Data#data{socket = Socket, received = <<>>});
        {error, econnrefused} = Error -> take_port(Error, Data);
        %% Whether somebody listens is not known.
        {error, _} = Error when Data#data.failures < ?MAX_CLOSES -> take_port(Error, Data);
        {error, _} = Error -> nobody(Error, Data)
    end.

connect_time(#data{mode = client, caller = {_From, _Deadline}}) -> ?REPLY_TIME;
connect_time(#data{failures = Failures}) ->
    min(?MAX_CONNECT_TIME, ?CONNECT_TIME * (1 + Failures)).

ask(#data{socket = Socket, node = #node{name = Name, port = Port}} = Data) ->
    case gen_tcp:send(Socket, portmapper_client:alive2(Name, Port)) of
        ok ->
            ok = listen_to(Socket),
            {next_state, asking, Data, {state_timeout, ?REPLY_TIME, no_reply}};
        {error, _} ->
            failed({error, epmd_close}, close(Data))
    end.

take_port(Error, #data{mode = client} = Data) ->
    nobody(Error, Data);
take_port(Error, #data{hosts_from = From} = Data) ->
    case erlang:monotonic_time(millisecond) >= From andalso portmapper_server:open() of
        {ok, _Server} ->
            serve(Data);
        false ->
            nobody(Error, Data);
        {error, {address_in_use, _}} ->
            nobody(Error, Data);
        {error, Reason} ->
            portmapper_log:cannot_start(Reason),
            failed(Error, Data)
    end.

%% There is no port mapper; if there has to be one soon, also for who has just come.
nobody(Error, #data{caller = {_From, Deadline}, mode = Mode} = Data) ->
    case Mode =/= client andalso erlang:monotonic_time(millisecond) < Deadline of
        true -> wait(?BACK_OFF, ?MAX_BACK_OFF, Data);
        false -> failed(Error, Data)
    end;
nobody(_Error, Data) ->
    wait(?BACK_OFF, ?MAX_BACK_OFF, Data).

failed({error, epmd_close}, #data{caller = undefined, failures = Failures} = Data) when
    Failures < ?MAX_CLOSES
->
    %% It may have been one that was about to end.
    wait(?BACK_OFF, ?MAX_BACK_OFF, Data);
failed(_Error, #data{caller = undefined} = Data) ->
    wait(?REFUSED_BACK_OFF, ?MAX_REFUSED_BACK_OFF, Data);
failed(Error, #data{caller = {From, _}, node = #node{name = Name}} = Data) ->
    Reply =
        case portmapper_epmd:listen_port_please(Name, "localhost") of
            {ok, 0} -> Error;
            %% Nodes find it without a port mapper.
            {ok, _} -> {ok, -1}
        end,
    {next_state, idle, Data#data{caller = undefined, node = undefined, failures = 0},
        {reply, From, Reply}}.

wait(First, Last, #data{failures = Failures} = Data) ->
    Time = portmapper_backoff:time(Failures, First, Last),
    {next_state, lost, Data#data{failures = Failures + 1}, {state_timeout, Time, try_again}}.

%% Keeps what a process after this one needs, and tells who waits.
registered(Creation, #data{caller = undefined} = Data) ->
    ?LOG_NOTICE("portmapper: this node is registered again, with creation ~b", [Creation]),
    Data#data{failures = 0};
registered(Creation, #data{caller = {From, _}, node = Node} = Data) ->
    persistent_term:put(?MODULE, Node),
    gen_statem:reply(From, {ok, Creation}),
    Data#data{caller = undefined, failures = 0}.

%% If it is closed already, that is what is heard.
listen_to(Socket) ->
    _ = inet:setopts(Socket, [{active, once}]),
    ok.

close(#data{socket = undefined} = Data) ->
    Data;
close(#data{socket = Socket} = Data) ->
    ok = gen_tcp:close(Socket),
    Data#data{socket = undefined}.

stand_by(#data{mode = Mode, stands_by = Time} = Data) when Mode =:= client; Time =:= true ->
    {keep_state, Data};
stand_by(#data{stands_by = Time} = Data) ->
    case portmapper_server:stand_by() of
        ok ->
            {keep_state, Data#data{stands_by = true}};
        {error, _} ->
            %% It may be a port mapper that does not hand on, as OTP's.
            Next = min(2 * Time, ?MAX_STAND_BY_TIME),
            {keep_state, Data#data{stands_by = Next}, {{timeout, stand_by}, Time, stand_by}}
    end.

%% The server is here, with the connection by which this node is registered.
take_over(Server, #data{socket = Socket, node = #node{name = Name}} = Data) ->
    ok = portmapper_server:adopt(Server),
    _ =
        case Socket =/= undefined andalso inet:port(Socket) of
            {ok, Port} ->
                portmapper_server:call(fun(It) -> portmapper_nif:adopt(It, text(Name), Port) end);
            _ ->
                not_connected
        end,
    ok = portmapper_epmd_sup:serve(),
    look(close(Data)).

%% The server is here.
serve(Data) ->
    ok = portmapper_epmd_sup:serve(),
    register_here(Data).

register_here(#data{node = undefined} = Data) ->
    look(Data);
register_here(#data{caller = Caller} = Data) ->
    case {own(Data), Caller} of
        {{ok, Creation}, _} -> look(registered(Creation, Data));
        {{error, _}, undefined} -> look(Data);
        {{error, _} = Error, {From, _}} ->
            gen_statem:reply(From, Error),
            look(Data#data{node = undefined, caller = undefined})
    end.

%% Looks at the server, which may have been asked to end, and for the name of this node,
%% which may have been forced out.
look(Data) ->
    case portmapper_server:serves() of
        true ->
            Watched = watch(stay_registered(Data)),
            {next_state, host, Watched, {{timeout, look}, ?LOOK_INTERVAL, look}};
        false ->
            ok = portmapper_epmd_sup:serve_no_more(),
            From = erlang:monotonic_time(millisecond) + ?LEFT_TO_OTHERS,
            wait(?BACK_OFF, ?MAX_BACK_OFF, Data#data{hosts_from = From})
    end.

watch(#data{monitor = undefined} = Data) ->
    Data#data{monitor = monitor(process, portmapper_server)};
watch(Data) ->
    Data.

stay_registered(#data{node = undefined} = Data) ->
    Data;
stay_registered(#data{node = #node{name = Name}} = Data) ->
    case portmapper:lookup(Name, #{holder => false}) of
        {ok, _} ->
            Data;
        {error, not_found} ->
            case own(Data) of
                {ok, Creation} -> registered(Creation, Data);
                {error, _} -> Data
            end
    end.

own(#data{node = #node{name = Name, port = Port}}) ->
    {Lowest, Highest} = portmapper_client:versions(),
    Versions = #{lowest_version => Lowest, highest_version => Highest},
    case portmapper:register(Name, Port, Versions) of
        {ok, Creation} -> {ok, Creation};
        {error, name_in_use} -> {error, duplicate_name};
        {error, _} = Error -> Error
    end.

text(Name) when is_atom(Name) -> atom_to_binary(Name);
text(Name) -> unicode:characters_to_binary(Name).
